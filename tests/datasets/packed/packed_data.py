"""Packed data sets, and a comparison of one with the stock data set."""

import torch

from prkd_mm.datasets import PackedImages


def tiny(folder, cache=None, split='train', **kwargs):
    """Tiny ImageNet, packed."""
    return PackedImages(
        dict(type='TinyImageNet', data_root=str(folder), split=split, **kwargs),
        cache=cache and str(cache),
    )


def pack_toy(folder, **kwargs):
    """Toy images, packed into a file in ``folder``."""
    return PackedImages(dict(type='ToyImages', data_root=str(folder), **kwargs))


def assert_same_images(packed, stock):
    """Check all images and labels."""
    assert len(packed) == len(stock) > 0
    assert packed.metainfo == stock.metainfo
    assert (packed.labels.numpy() == stock.get_gt_labels()).all()
    for i in range(len(stock)):
        image, sample = stock[i]['inputs'], packed[i]
        assert torch.equal(sample['inputs'], image)
        assert (packed.images[i] == image.numpy()).all()
        assert sample['data_samples'].sample_idx == i
        assert torch.equal(sample['data_samples'].gt_label, stock[i]['data_samples'].gt_label)
