import multiprocessing
from unittest import mock

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as F
import toy
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.dataset.sampler import DefaultSampler
from mmengine.logging import MessageHub
from mmpretrain.models.utils import ClsDataPreprocessor
from mmpretrain.registry import DATASETS, MODELS
from torch import distributed as dist
from torch.utils.data import ConcatDataset, DataLoader

from prkd_mm.datasets import BatchClsDataPreprocessor, PackedImages
from prkd_mm.datasets.packed.batch_augment import choose
from prkd_mm.datasets.packed.packed_images import whole_batch

NORM = dict(mean=[129.3, 124.1, 112.4], std=[68.2, 65.4, 70.4])


@pytest.fixture(autouse=True)
def no_run():
    """Select an empty message hub: without a run, the view is 0."""
    MessageHub.get_instance('no run')


def preprocessor(**kwargs):
    return BatchClsDataPreprocessor(**dict(dict(seed=5, **NORM), **kwargs))


def pipeline(size=8, padding=1, prob=0.5, load=False):
    return [
        *[dict(type='LoadImageFromFile')][:load],
        dict(type='RandomCrop', crop_size=size, padding=padding),
        *[dict(type='RandomFlip', prob=prob)][: prob > 0],
        dict(type='PackInputs'),
    ]


def packed_toys(**kwargs):
    return PackedImages(dict(type='ToyImages', pipeline=pipeline(**kwargs)))


def stock_batch(packed, index, epoch, seed=5):
    """Our choices applied by torchvision, with one sample per image."""
    size, padding, prob = packed.__getitems__([0])['augment'].values()
    positions = [n + 2 * padding - m + 1 for n, m in zip(packed.images.shape[2:], size)]
    items = []
    for i, top, left, flip in zip(index, *choose(seed, epoch, np.array(index), positions, prob)):
        item = packed[i]
        image = F.crop(F.pad(item['inputs'], [padding]), top, left, *size)
        item['inputs'] = F.hflip(image) if flip else image
        items.append(item)
    return default_collate(items)


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(),
        dict(to_rgb=True),
        dict(mean=None, std=None),
        dict(mean=[127] * 3, std=[64] * 3, to_rgb=True),
        dict(pad_size_divisor=16),
    ],
    ids=str,
)
@pytest.mark.parametrize('size', [8, (6, 9)])
@pytest.mark.parametrize('training', [True, False])
def test_batches_equal_those_of_stock_bit_for_bit(kwargs, size, training):
    packed, ours = packed_toys(size=size), preprocessor(**kwargs)
    index = [3, 9, 31, 0, 9]
    ours.epoch = 4
    out = ours(packed.__getitems__(index), training)
    kwargs = dict(NORM, **kwargs)
    stock = ClsDataPreprocessor(**kwargs)(stock_batch(packed, index, epoch=4), training)
    assert torch.equal(out['inputs'], stock['inputs'])
    labels = torch.cat([s.gt_label for s in out['data_samples']])
    assert torch.equal(labels, torch.cat([s.gt_label for s in stock['data_samples']]))


def test_real_images_equal_those_of_stock(mini, tmp_path):
    data = dict(type='TinyImageNet', data_root=str(mini), split='val')
    packed = PackedImages(dict(data, pipeline=pipeline(64, 8, load=True)), str(tmp_path))
    index = list(range(0, 20, 3))
    kwargs = dict(NORM, to_rgb=True)
    out = preprocessor(**kwargs)(packed.__getitems__(index), True)
    stock = ClsDataPreprocessor(**kwargs)(stock_batch(packed, index, 0), True)
    assert torch.equal(out['inputs'], stock['inputs'])
    # without augmentation, the images are those of the stock pipeline
    plain = PackedImages(data, str(tmp_path))
    images = DATASETS.build(
        dict(data, pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])
    )
    for training in True, False:
        out = preprocessor(**kwargs)(plain.__getitems__(index), training)
        stock = ClsDataPreprocessor(**kwargs)(default_collate([images[i] for i in index]), training)
        assert torch.equal(out['inputs'], stock['inputs'])


def test_gray_images_equal_those_of_stock():
    packed = PackedImages(dict(type='Digits', split='test', pipeline=pipeline(prob=0)))
    kwargs = dict(mean=[78.0], std=[95.7], to_rgb=True)
    index = list(range(100))
    out = preprocessor(**kwargs)(packed.__getitems__(index), True)
    assert out['inputs'].shape == (100, 1, 8, 8)
    stock = ClsDataPreprocessor(**kwargs)(stock_batch(packed, index, 0), True)
    assert torch.equal(out['inputs'], stock['inputs'])


@pytest.mark.parametrize('collate', [default_collate, pseudo_collate])
@pytest.mark.parametrize('training', [True, False])
def test_stock_batches_are_accepted(collate, training):
    packed = PackedImages(dict(type='ToyImages', pipeline=[dict(type='PackInputs')]))
    outs = [
        preprocessor(collate([packed[i] for i in range(4)]), training)
        for preprocessor in (BatchClsDataPreprocessor(**NORM), ClsDataPreprocessor(**NORM))
    ]
    assert torch.equal(outs[0]['inputs'], outs[1]['inputs'])
    for one, two in zip(*(out['data_samples'] for out in outs)):
        assert torch.equal(one.gt_label, two.gt_label)


def test_training_has_one_sample_for_the_whole_batch():
    ours = preprocessor(views=3)
    ours.epoch = 7
    batch = packed_toys().__getitems__([6, 1])
    (sample,) = ours(batch, True)['data_samples']
    assert sample.gt_label.tolist() == [2, 1]
    assert sample.sample_idx.tolist() == [6, 1] and sample.view == 1
    assert {'sample_idx', 'view'} <= set(sample.metainfo)
    one, two = ours(batch, False)['data_samples']
    assert one.gt_label.tolist() == [2] and two.gt_label.tolist() == [1]
    assert (one.sample_idx, two.sample_idx) == (6, 1)
    assert batch['inputs'].dtype == torch.uint8  # the batch itself is not changed


def test_losses_equal_those_of_stock():
    packed = packed_toys()
    torch.manual_seed(0)
    net = toy.build(toy.classifier())
    index = list(range(10))
    losses = [
        net(**data, mode='loss')['loss']
        for data in (
            preprocessor()(packed.__getitems__(index), True),
            ClsDataPreprocessor(**NORM)(stock_batch(packed, index, 0), True),
        )
    ]
    assert torch.equal(*losses) and losses[0] > 0


def test_mixup_equals_that_of_stock():
    kwargs = dict(
        NORM, num_classes=4, batch_augments=dict(augments=[dict(type='Mixup', alpha=1.0)])
    )
    packed, index = packed_toys(), [3, 9, 31, 0]
    outs = []
    for pre, batch in (
        (preprocessor(**kwargs), packed.__getitems__(index)),
        (ClsDataPreprocessor(**kwargs), stock_batch(packed, index, 0)),
    ):
        np.random.seed(0)
        torch.manual_seed(0)
        outs.append(pre(batch, True))
    assert torch.equal(outs[0]['inputs'], outs[1]['inputs'])
    for one, two in zip(*(out['data_samples'] for out in outs)):
        assert torch.equal(one.gt_score, two.gt_score)
        assert one.gt_score.sum() == pytest.approx(1)
    mixed = [one.gt_score.count_nonzero() == 2 for one in outs[0]['data_samples']]
    assert any(mixed)


def images_by_index(ours, packed, num_workers=0, rank=0, ranks=1):
    """Images of one rank in an epoch, {index: image}."""
    with mock.patch('mmengine.dataset.sampler.get_dist_info', lambda: (rank, ranks)):
        sampler = DefaultSampler(packed, shuffle=True, seed=ranks)
    loader = DataLoader(packed, 7, sampler=sampler, num_workers=num_workers, collate_fn=whole_batch)
    seen = {}
    for batch in loader:
        out = ours(batch, True)
        seen.update(zip(out['data_samples'][0].sample_idx.tolist(), out['inputs']))
    return seen


def test_images_do_not_depend_on_ranks_and_workers():
    packed, ours = packed_toys(), preprocessor()
    whole = images_by_index(ours, packed)
    assert sorted(whole) == list(range(32))
    halves = {}
    for rank in range(2):
        halves.update(images_by_index(ours, packed, 2, rank, 2))
    assert len(halves) == 32
    toy.assert_same(whole, {i: halves[i] for i in whole})
    ours.epoch = 1
    other = images_by_index(ours, packed)
    assert sum(torch.equal(whole[i], other[i]) for i in whole) < 8


def test_images_depend_on_epoch_seed_and_views():
    batch = packed_toys().__getitems__(list(range(32)))
    ours = preprocessor()

    def images(epoch, **kwargs):
        ours.__dict__.update(dict(seed=5, views=None), epoch=epoch, **kwargs)
        return ours(batch, True)['inputs']

    assert torch.equal(images(3), images(3))
    assert not torch.equal(images(3), images(4))
    assert not torch.equal(images(3), images(3, seed=6))
    assert torch.equal(images(3, views=4), images(7, views=4))
    assert not torch.equal(images(3, views=4), images(4, views=4))
    assert torch.equal(images(4, views=4), images(0))


@pytest.mark.parametrize(
    'info, view',
    [
        (dict(), 0),
        (dict(epoch=3, max_epochs=5, iter=70, max_iters=100), 3),
        (dict(epoch=0, max_epochs=1, iter=70, max_iters=100), 70),
        (dict(epoch=5, max_epochs=5, iter=100, max_iters=100), 4),
        (dict(epoch=0, max_epochs=1, iter=100, max_iters=100), 99),
    ],
)
def test_the_view_follows_the_run(info, view):
    hub = MessageHub.get_instance(f'view of {info}')
    hub.update_info_dict(info)
    assert preprocessor().view == view
    assert preprocessor(views=2).view == view % 2


def test_a_drawn_seed_is_kept():
    hub = MessageHub.get_instance('drawn seed')
    packed, ours = packed_toys(), preprocessor(seed=None)
    batch = packed.__getitems__(list(range(32)))
    np.random.seed(0)
    one = ours(batch, True)['inputs']
    assert isinstance(hub.state_dict()['runtime_info']['augmentation_seed'], (int, np.integer))
    assert torch.equal(ours(batch, True)['inputs'], one)
    MessageHub.get_instance('another run')
    assert not torch.equal(ours(batch, True)['inputs'], one)


def draw_as_rank(rank, folder, results):
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2
    )
    np.random.seed(rank)
    MessageHub.get_instance('ranks')
    batch = packed_toys().__getitems__(list(range(32)))
    results.put(preprocessor(seed=None)(batch, True)['inputs'].numpy())
    dist.destroy_process_group()


def test_all_ranks_use_one_drawn_seed(tmp_path):
    context = multiprocessing.get_context('fork')
    results = context.SimpleQueue()
    processes = [
        context.Process(target=draw_as_rank, args=(rank, tmp_path, results)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    one, two = (results.get() for _ in processes)
    for process in processes:
        process.join()
    assert (one == two).all()


@pytest.mark.parametrize('views', [0, -1, 1.5, '3'])
def test_views_must_be_a_positive_integer(views):
    with pytest.raises(ValueError, match='views.*at least 1'):
        preprocessor(views=views)


def test_the_preprocessor_is_registered():
    ours = MODELS.build(dict(type='BatchClsDataPreprocessor', **NORM))
    assert isinstance(ours, ClsDataPreprocessor)


def test_training_with_a_wrapper_is_an_error():
    """Wrappers fetch single images, which would not be augmented."""
    packed = PackedImages(
        dict(
            type='ToyImages',
            pipeline=[
                dict(type='RandomFlip', prob=0.5, direction='horizontal'),
                dict(type='PackInputs'),
            ],
        )
    )
    loader = DataLoader(ConcatDataset([packed]), batch_size=4, collate_fn=default_collate)
    batch = next(iter(loader))
    preprocessor = BatchClsDataPreprocessor()
    with pytest.raises(TypeError, match='one by one'):
        preprocessor(batch, True)
    assert len(preprocessor(batch)['inputs']) == 4
