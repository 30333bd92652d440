"""Data sets of small images, decoded once and fetched a batch at a time."""

import zlib
from collections.abc import Sequence
from os import path as osp
from typing import Optional, Union

import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile, RandomFlip, Resize
from mmengine.dataset import BaseDataset, default_collate
from mmengine.registry import FUNCTIONS
from mmpretrain.datasets.transforms import PackInputs, RandomCrop
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample
from torch.utils.data import Dataset

from .pack_file import Originals, map_file, pack


class WholeBatch(dict):
    """A batch, or the labels of one, as :class:`PackedImages` gives it."""

    def __missing__(self, key):
        # MMEngine's collate functions, and its data preprocessors, expect a
        # sequence and ask for the item 0
        raise TypeError(
            f'there is no {key!r} in a whole batch of PackedImages; it takes '
            "collate_fn=dict(type='whole_batch') and a data_preprocessor of "
            "type='BatchClsDataPreprocessor'"
        )


@FUNCTIONS.register_module()
def whole_batch(batch: Union[WholeBatch, Sequence[dict]]) -> dict:
    """Leave a batch as it is; collate what is not one yet.

    Give it as ``collate_fn`` of a data loader of :class:`PackedImages`. The
    samples of other data sets it hands to MMEngine's ``default_collate``.
    """
    return batch if isinstance(batch, dict) else default_collate(batch)


@DATASETS.register_module()
class PackedImages(Dataset):
    """The images of another data set in one array, decoded only once.

    The array lies in a file beside the data (``.npy``, ``uint8``, N × C × H ×
    W, so that ``numpy.load`` reads it), which all workers and ranks map into
    their memory. A batch is then a single copy, some hundred times faster
    than reading images. Each start compares the checksum, which reads the
    file once in order; that is also the fastest way to have it in memory. A
    damaged file, or one whose images have changed (size or time of a file),
    is made anew, and appears under its name only when it is complete. Sets
    with no folder (:class:`Digits`) are packed in memory.

    The set keeps its pipeline, which here is carried out by batches:
    ``LoadImageFromFile`` and ``Resize`` when the array is made, with the same
    results; ``RandomCrop`` (with ``padding``) and ``RandomFlip`` by the data
    preprocessor, on its device, with the same probabilities. Nothing else may
    be in it, but each of them may be missing.

    A data loader gets whole batches: ``inputs``, the ``uint8`` images,
    ``data_samples``, a dict of ``gt_label`` and ``sample_idx``, and what to
    do with them. It takes ``collate_fn=dict(type='whole_batch')``, a data
    preprocessor :class:`BatchClsDataPreprocessor` and ``num_workers=0``: a
    worker would cost more than it saves.

    Args:
        dataset (dict | BaseDataset): The data set.
        cache (str, optional): The folder for the file. Defaults to None,
            which means the set's ``data_root``.
        pipeline (list[dict], optional): Pipeline of the set, if that is a
            dict; where MMPretrain's inferencer looks for it. Defaults to None:
            its own.

    Attributes:
        images (np.ndarray): All images, ``(N, C, H, W)``.
        fingerprint (str): Which images with which labels these are, in which
            order. Not the state of their files.
        source (str): The fingerprint, the pixels and the augmentation; comes
            with each batch.

    Raises:
        TypeError: If ``dataset`` is a wrapper of others.
        ValueError: If its pipeline has something else in it, its images have
            several sizes or are not ``uint8``, or an image has not exactly
            one label.
        OSError: If the file cannot be written.
    """

    def __init__(
        self,
        dataset: Union[dict, BaseDataset],
        cache: Optional[str] = None,
        pipeline: Optional[list] = None,
    ) -> None:
        if isinstance(dataset, dict):
            dataset = DATASETS.build(dict(dataset, pipeline=pipeline) if pipeline else dataset)
        if not isinstance(dataset, BaseDataset):
            raise TypeError(
                f'PackedImages: {type(dataset).__name__} is a wrapper, which '
                'knows no whole batches; use it without PackedImages'
            )
        once, self._augment = _read(dataset.pipeline.transforms)
        originals = Originals(dataset, once)
        self.metainfo = dataset.metainfo
        self.labels = torch.tensor(originals.labels)
        self.fingerprint = originals.fingerprint
        # in no folder of its own, which CustomDataset would take for a class
        folder = cache or originals.root
        self.file = folder and osp.join(folder, originals.name)
        self.images = pack(originals, self.file)
        self._check_crop()
        shape = 'x'.join(map(str, self.images.shape))
        self.source = f'{self.fingerprint} {shape} {zlib.crc32(self.images):08x} {self._augment}'

    def _check_crop(self) -> None:
        if not self._augment:
            return
        size, padding = self._augment['size'], self._augment['padding']
        height, width = (n + 2 * padding for n in self.images.shape[2:])
        if size and (size[0] > height or size[1] > width):
            raise ValueError(
                f'PackedImages: crop_size={tuple(size)} is larger than the '
                f'padded images, {(height, width)}'
            )

    def full_init(self) -> None:
        """Nothing: all is done from the start."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: Sequence[int]) -> WholeBatch:
        """The batch of these images; what PyTorch's data loader calls."""
        index = torch.tensor(indices)
        batch = WholeBatch(
            inputs=torch.from_numpy(np.take(self.images, indices, axis=0)),
            data_samples=WholeBatch(
                gt_label=self.labels[index], sample_idx=index, source=self.source
            ),
        )
        if self._augment:
            batch['augment'] = self._augment
        return batch

    def __getitem__(self, idx: int) -> dict:
        """One image, not augmented, as after ``PackInputs``."""
        idx = range(len(self))[idx]
        sample = DataSample().set_gt_label(self.labels[idx : idx + 1])
        sample.set_field(idx, 'sample_idx', field_type='metainfo')
        sample.set_field(bool(self._augment), 'not_augmented', field_type='metainfo')
        return dict(inputs=torch.from_numpy(self.images[idx].copy()), data_samples=sample)

    def __getstate__(self) -> dict:
        # a worker that is not forked maps the file itself
        return dict(self.__dict__, images=None) if self.file else self.__dict__

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        if self.file:
            self.images = np.asarray(map_file(self.file))


def _read(transforms: list) -> tuple[list, dict]:
    """What a pipeline does to an image once, and what at random."""
    order = [LoadImageFromFile, Resize, RandomCrop, RandomFlip, PackInputs]
    steps = {type(step): step for step in transforms}
    crop, flip = steps.get(RandomCrop), steps.get(RandomFlip)
    if (
        list(map(type, transforms)) != [x for x in order if x in steps]
        or crop
        and (not isinstance(crop.padding or 0, int) or crop.pad_if_needed or crop.pad_val != 0)
        or flip
        and (not isinstance(flip.prob, float) or flip.direction != 'horizontal')
    ):
        raise ValueError(
            'PackedImages: a pipeline can have LoadImageFromFile, Resize, '
            'RandomCrop (with crop_size, and padding as a number), RandomFlip '
            '(horizontal) and PackInputs, in this order, but not '
            f'{transforms}; use the data set without PackedImages'
        )
    augment = {}
    if crop or flip:
        augment = dict(
            size=crop and tuple(crop.crop_size),
            padding=crop and crop.padding or 0,
            flip_prob=flip.prob if flip else 0.0,
        )
    once = [steps[x] for x in (LoadImageFromFile, Resize) if x in steps]
    return once, augment
