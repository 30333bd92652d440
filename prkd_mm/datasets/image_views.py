"""Images of any size whose augmentation is a function of (seed, view, index)."""

import hashlib
import os.path as osp
import random
import re
from collections.abc import Sequence
from typing import Any, Optional, Union

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import BaseDataset, Compose
from mmpretrain.registry import DATASETS
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from ..randomness import untouched_random_state
from .packed.batch_augment import PIPELINE, random_words
from .packed.packed_images import WholeBatch
from .wrapped import build_wrapped

_DRAWN = 8  # views of the first image


@DATASETS.register_module()
class ImageViews(Dataset):
    """Images of another data set, augmented reproducibly by its own pipeline.

    Use it for images that are too large for :class:`PackedImages`, or that have different sizes.
    The pipeline of the data set runs unchanged in the worker processes, but before each image the
    random number generators (Python's, NumPy's and PyTorch's on the CPU) are seeded with a hash of
    (seed, view, index of the image). An augmented image then depends on nothing else: neither on
    the order of the images, nor on workers and ranks, nor on whether the run was resumed. Therefore
    a teacher's logits can be stored for several views of each image. The distribution of the images
    is that of the pipeline.

    The view is the epoch, modulo the number of stored views if views are stored.
    :class:`EpochSeedHook` sets it before each epoch, which requires an epoch-based loop. The data
    loader takes ``collate_fn=dict(type='whole_batch')`` and any number of workers, and the data
    preprocessor is :class:`BatchClsDataPreprocessor`.

    Args:
        dataset (dict | BaseDataset): The data set. Its pipeline may contain any transforms that
            draw from these generators; those of Albumentations 2 have their own. It must end with
            ``PackInputs`` and return ``uint8`` images of one size.
        pipeline (list[dict], optional): Pipeline to use instead of that of ``dataset``, if this is
            a dict. Defaults to None.

    Attributes:
        source (str): Hash of the paths, labels, classes and pipeline; part of each batch. The
            contents of the files are not compared.

    Raises:
        TypeError: If ``dataset`` wraps other data sets.
        FileNotFoundError: If the images are not there.
        ValueError: Before the first image, if the pipeline does not repeat its augmentation; or if
            the images of a batch differ in size.

    Examples:
        >>> photos = dict(
        ...     type='CustomDataset',
        ...     data_root='data/photos/train',
        ...     pipeline=[
        ...         dict(type='LoadImageFromFile'),
        ...         dict(type='RandomResizedCrop', scale=224),
        ...         dict(type='PackInputs')])
        >>> train_dataloader = dict(
        ...     num_workers=8,
        ...     collate_fn=dict(type='whole_batch'),
        ...     dataset=dict(type='ImageViews', dataset=photos))
    """

    def __init__(self, dataset: Union[dict, BaseDataset], pipeline: Optional[list] = None) -> None:
        self.dataset = build_wrapped('ImageViews', dataset, pipeline)
        self.metainfo = self.dataset.metainfo
        self.source = hash_of_images(self.dataset)
        # in shared memory, so that workers that are already running see a change
        self._seed_and_view = torch.zeros(2, dtype=torch.int64).share_memory_()
        self._repeats = False  # not checked yet

    def full_init(self) -> None:
        """No-op; the data set is always initialized."""

    def choose(self, seed: int, view: int) -> None:
        """Choose the augmented view that the next images come from."""
        self._check_repeats(seed)
        self._seed_and_view.copy_(torch.tensor([seed, view]))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, idx: int) -> dict:
        """Return one image in the format of MMPretrain's ``PackInputs``."""
        seed, view = self._seed_and_view.tolist()
        with untouched_random_state(gpu=False):
            return self._draw([range(len(self))[idx]], seed, view)[0]

    def __getitems__(self, indices: Sequence[int]) -> WholeBatch:
        """Return the batch of these images; called by PyTorch's data loader."""
        seed, view = self._seed_and_view.tolist()
        with untouched_random_state(gpu=False):
            samples = self._draw(indices, seed, view)
        self._check_sizes([sample['inputs'] for sample in samples], indices)
        return WholeBatch(
            # in a worker this stacks into memory shared with the main process
            inputs=default_collate([sample['inputs'] for sample in samples]),
            data_samples=WholeBatch(
                gt_label=torch.cat([sample['data_samples'].gt_label for sample in samples]),
                sample_idx=torch.tensor(indices),
                source=self.source,
                view=view,
                seed=seed,
            ),
        )

    def _draw(self, indices: Sequence[int], seed: int, view: int) -> list[dict]:
        samples = []
        words = random_words(seed, view, PIPELINE, np.asarray(indices)).tolist()
        for index, word in zip(indices, words):
            random.seed(word)
            np.random.seed([word & 0xFFFFFFFF, word >> 32])
            # torch.manual_seed would also seed the GPUs, whose generators dropout uses
            torch.default_generator.manual_seed(word >> 1)
            samples.append(self.dataset[index])
        return samples

    def _check_repeats(self, seed: int) -> None:
        """Raise a ValueError if the pipeline draws from generators that are not seeded."""
        if self._repeats or not len(self):
            return
        with untouched_random_state(gpu=False):
            for view in range(_DRAWN):  # a random step may leave an image unchanged
                one, other = (self._draw([0], seed, view)[0]['inputs'] for _ in range(2))
                if not torch.equal(one, other):
                    raise ValueError(
                        'ImageViews: the pipeline does not repeat its augmentation, because one '
                        "of its transforms does not draw from Python's, NumPy's or PyTorch's "
                        'global generator (those of Albumentations 2 do not); remove that '
                        'transform, or use the data set without ImageViews and stored logits'
                    )
        self._repeats = True

    def _check_sizes(self, images: Sequence[Tensor], indices: Sequence[int]) -> None:
        for image, index in zip(images, indices):
            if image.shape != images[0].shape:
                first, other = (self.dataset.get_data_info(i) for i in (indices[0], index))
                raise ValueError(
                    'ImageViews: the pipeline must return images of one size, but it returns '
                    f'{tuple(images[0].shape)} for {first.get("img_path", indices[0])} and '
                    f'{tuple(image.shape)} for {other.get("img_path", index)}; add a transform '
                    'such as RandomResizedCrop'
                )


def _describe(value: Any) -> str:
    """The settings of transforms as a text that is the same in every process.

    Some transforms of MMPretrain omit settings in their ``repr``, so their attributes are listed.
    """
    if isinstance(value, dict):
        items = sorted(f'{_describe(key)}: {_describe(item)}' for key, item in value.items())
        return f'{{{", ".join(items)}}}'
    if isinstance(value, (list, tuple)):
        return f'[{", ".join(map(_describe, value))}]'
    if isinstance(value, (set, frozenset)):
        return _describe(sorted(map(_describe, value)))
    if isinstance(value, (np.ndarray, Tensor)):  # whose repr may be abridged
        return f'{value.dtype}{_describe(value.tolist())}'
    if isinstance(value, (BaseTransform, Compose)) or type(value).__repr__ is object.__repr__:
        return f'{type(value).__qualname__}{_describe(getattr(value, "__dict__", {}))}'
    return re.sub(r' at 0x[0-9a-fA-F]+', '', repr(value))


def hash_of_images(dataset: BaseDataset) -> str:
    """Hash of the names and labels of the images of a data set, its classes and its pipeline."""
    settings = _describe([dataset.pipeline, dataset.metainfo.get('classes')])
    digest = hashlib.sha256(settings.encode())
    root = getattr(dataset, 'img_prefix', None) or getattr(dataset, 'data_root', None)
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        digest.update(f'{info.get("gt_label")} '.encode())
        if 'img' in info:
            digest.update(np.ascontiguousarray(info['img']))
        else:  # relative to the folder, which may be moved
            path = info['img_path']
            digest.update((osp.relpath(path, root) if root else path).encode())
    return digest.hexdigest()[:16]
