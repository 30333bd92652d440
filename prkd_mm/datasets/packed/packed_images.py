"""Data sets of small images, decoded once and fetched in whole batches."""

import zlib
from collections.abc import Sequence
from typing import Optional, Union

import numpy as np
import torch
from mmcv.transforms import BaseTransform, LoadImageFromFile, RandomFlip, Resize
from mmengine.dataset import BaseDataset, default_collate
from mmengine.registry import FUNCTIONS
from mmpretrain.datasets.transforms import PackInputs, RandomCrop
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample
from torch.utils.data import Dataset

from ..wrapped import build_wrapped
from .pack_file import Originals, default_folders, map_file, pack


class WholeBatch(dict):
    """A batch of :class:`PackedImages` or :class:`ImageViews`, or its labels."""

    def __missing__(self, key):
        # collate functions and data preprocessors that expect a sequence of
        # samples look up the item 0
        raise TypeError(
            f'there is no {key!r} in a whole batch of PackedImages or ImageViews; they require '
            "collate_fn=dict(type='whole_batch') and a data_preprocessor of "
            "type='BatchClsDataPreprocessor'"
        )


@FUNCTIONS.register_module()
def whole_batch(batch: Union[WholeBatch, Sequence[dict]]) -> dict:
    """Return a whole batch unchanged, and collate the samples of other data sets.

    The ``collate_fn`` of data loaders of :class:`PackedImages` and :class:`ImageViews`. It passes
    samples of other data sets to MMEngine's ``default_collate``.
    """
    return batch if isinstance(batch, dict) else default_collate(batch)


@DATASETS.register_module()
class PackedImages(Dataset):
    """Images of another data set, decoded once into a single array.

    The array is stored in a file in the folder of the data (``.npy``, ``uint8``, N × C × H × W,
    readable by ``numpy.load``), which all workers and ranks map into memory. Fetching a batch is
    then a single copy, about a hundred times faster than reading images. The checksum is verified
    at each start, which also reads the file into memory. A file that is damaged or whose images
    have changed (size or modification time) is rebuilt, and renamed into place when complete. Data
    sets without a folder (:class:`Digits`) are packed in memory.

    The pipeline of the data set is applied to batches: ``LoadImageFromFile`` and ``Resize`` when
    the array is built, with the same results; ``RandomCrop`` (with ``padding``) and ``RandomFlip``
    by the data preprocessor, on its device, with the same probabilities. Other transforms are not
    supported; use :class:`ImageViews` for them, and for images of different sizes.

    A data loader receives whole batches: ``inputs``, the ``uint8`` images; ``data_samples``, a dict
    with ``gt_label`` and ``sample_idx``; and the augmentation. It takes
    ``collate_fn=dict(type='whole_batch')``, the data preprocessor
    :class:`BatchClsDataPreprocessor`, and ``num_workers=0``, since a worker would cost more time
    than it saves.

    Args:
        dataset (dict | BaseDataset): The data set.
        cache (str, optional): Folder of the file. Defaults to None, which means ``data_root`` of
            the data set or, if that is read-only, a folder in ``~/.cache/prkd_mm``
            (``$XDG_CACHE_HOME/prkd_mm``).
        pipeline (list[dict], optional): Pipeline to use instead of that of ``dataset``, if this is
            a dict; MMPretrain's inferencer looks for it here. Defaults to None.

    Attributes:
        images (np.ndarray): All images, ``(N, C, H, W)``.
        file (str): Path of the file, or '' if the images are packed in memory.
        fingerprint (str): Hash of the images and labels in their order; it does not depend on the
            state of the files.
        source (str): Fingerprint, checksum of the pixels and augmentation; part of each batch.

    Raises:
        TypeError: If ``dataset`` wraps other data sets.
        FileNotFoundError: If images are missing.
        ValueError: If the pipeline has an unsupported step, the images have different sizes or are
            not ``uint8``, or an image does not have exactly one label.
        OSError: If the file cannot be written.

    Examples:
        >>> train_dataloader = dict(
        ...     num_workers=0,
        ...     collate_fn=dict(type='whole_batch'),
        ...     dataset=dict(
        ...         type='PackedImages',
        ...         dataset=dict(type='Digits', split='train', pipeline=[
        ...             dict(type='RandomCrop', crop_size=8, padding=1),
        ...             dict(type='PackInputs')])))
    """

    def __init__(
        self,
        dataset: Union[dict, BaseDataset],
        cache: Optional[str] = None,
        pipeline: Optional[list] = None,
    ) -> None:
        dataset = build_wrapped('PackedImages', dataset, pipeline)
        once, self._augment = _read(dataset.pipeline.transforms)
        originals = Originals(dataset, once)
        self.metainfo = dataset.metainfo
        self.labels = torch.tensor(originals.labels)
        self.fingerprint = originals.fingerprint
        # not in a subfolder, which CustomDataset would treat as a class
        folders = [cache] if cache else default_folders(originals.root)
        self.file, self.images = pack(originals, folders)
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
        """No-op; the data set is always initialized."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: Sequence[int]) -> WholeBatch:
        """Return the batch of these images; called by PyTorch's data loader."""
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
        """Return one image without augmentation, in the format of ``PackInputs``."""
        idx = range(len(self))[idx]
        sample = DataSample().set_gt_label(self.labels[idx : idx + 1])
        sample.set_field(idx, 'sample_idx', field_type='metainfo')
        sample.set_field(bool(self._augment), 'not_augmented', field_type='metainfo')
        return dict(inputs=torch.from_numpy(self.images[idx].copy()), data_samples=sample)

    def __getstate__(self) -> dict:
        # a spawned worker maps the file itself
        return dict(self.__dict__, images=None) if self.file else self.__dict__

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        if self.file:
            self.images = np.asarray(map_file(self.file))


_ORDER = (LoadImageFromFile, Resize, RandomCrop, RandomFlip, PackInputs)


def _read(transforms: list[BaseTransform]) -> tuple[list[BaseTransform], dict]:
    """Split a pipeline into steps that run once and the augmentation of batches."""
    once, crop, flip, last = [], {}, {}, -1
    for step in transforms:
        position = _ORDER.index(type(step)) if type(step) in _ORDER else -1
        if position <= last:
            names = ', '.join(kind.__name__ for kind in _ORDER)
            raise _not_batchable(step, f'the steps must be some of {names}, in this order')
        last = position
        if isinstance(step, RandomCrop):
            crop = _read_crop(step)
        elif isinstance(step, RandomFlip):
            flip = _read_flip(step)
        elif not isinstance(step, PackInputs):
            once.append(step)
    if not crop and not flip:
        return once, {}
    return once, {'size': None, 'padding': 0, 'flip_prob': 0.0, **crop, **flip}


def _read_crop(step: RandomCrop) -> dict:
    padding = step.padding or 0
    if not isinstance(padding, int) or step.pad_if_needed or step.pad_val != 0:
        raise _not_batchable(
            step,
            'RandomCrop must have one number as padding, pad with zeros, and not use pad_if_needed',
        )
    return dict(size=tuple(step.crop_size), padding=padding)


def _read_flip(step: RandomFlip) -> dict:
    if not isinstance(step.prob, float) or step.direction != 'horizontal':
        raise _not_batchable(step, 'RandomFlip must be horizontal, with one number as prob')
    return dict(flip_prob=step.prob)


def _not_batchable(step: BaseTransform, reason: str) -> ValueError:
    return ValueError(
        f'PackedImages: the pipeline step {step} cannot be applied to whole batches: {reason}. '
        'Use ImageViews, which runs any pipeline in worker processes'
    )
