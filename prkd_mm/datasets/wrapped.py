"""The data set inside of PackedImages, ImageViews or held_out_split."""

import os
from collections import Counter
from os import path as osp
from typing import Any, Optional, Union

from mmengine.dataset import BaseDataset
from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import DATASETS

from ..config_types import is_type, type_name
from .prepare.source import CIFAR_10, CIFAR_100

_PHOTOS = tuple('.avif .bmp .gif .heic .jp2 .jpeg .jpg .png .tif .tiff .webp'.split())
_CIFAR = dict(CIFAR10=CIFAR_10, CIFAR100=CIFAR_100)


def build_wrapped(
    wrapper: str, dataset: Union[dict, BaseDataset], pipeline: Optional[list] = None
) -> BaseDataset:
    """Build the data set of a wrapper, if needed with another pipeline, and list its images.

    Raises:
        FileNotFoundError: If there are no images in ``data_root``.
        TypeError: If the data set wraps other data sets.
    """
    if isinstance(dataset, dict):
        dataset = _build(dict(dataset, pipeline=pipeline) if pipeline else dataset)
    if not isinstance(dataset, BaseDataset):
        raise TypeError(
            f'{wrapper}: {type(dataset).__name__} wraps other data sets; put {wrapper} inside it'
        )
    dataset.full_init()
    return dataset


def _build(cfg: dict) -> BaseDataset:
    try:
        return DATASETS.build(cfg)
    except (FileNotFoundError, RuntimeError) as error:
        if advice := _advice(cfg, error):
            raise FileNotFoundError(advice) from error
        raise


def _advice(cfg: dict, error: Exception) -> Optional[str]:
    """Message in place of MMPretrain's, which names no command of this project."""
    root = osp.abspath(osp.expanduser(cfg.get('data_root') or os.curdir))
    for name, source in _CIFAR.items():
        if is_type(cfg, name) and 'Cannot find' in str(error):
            return (
                f"there is no complete {source.title} in '{root}' (folder '{source.folder}'). "
                f'{source.how_to_get}'
            )
    missing = getattr(error, 'filename', None)  # None unless the system raised the error
    if not missing:
        return None
    kind = type_name(cfg)
    prefix = cfg.get('data_prefix')
    if prefix and isinstance(prefix, str) and not cfg.get('data_root'):
        return (
            f"{kind}: there is no '{missing}'. Set data_prefix, now {prefix!r}, to the folder of "
            'the images'
        )
    return (
        f"{kind}: there is no '{missing}'. Put the images into '{root}', or set data_root to the "
        'folder that holds them'
    )


def unused_images(dataset: Any) -> list[str]:
    """Messages about image files that a ``CustomDataset``, maybe in a wrapper, does not list.

    It lists only the files whose names end with one of its ``extensions``.
    """
    dataset = getattr(dataset, 'dataset', dataset)
    if type(dataset) is not CustomDataset or dataset.ann_file or not osp.isdir(dataset.img_prefix):
        return []
    used, folder = dataset.extensions, dataset.img_prefix
    endings = Counter(
        osp.splitext(name)[1].lower() for *_, names in os.walk(folder) for name in names
    )
    skipped = {end: endings[end] for end in _PHOTOS if endings[end] and end not in used}
    if not skipped:
        return []
    shown = ', '.join(f'{number:,} with {end}' for end, number in skipped.items())
    return [
        f"{sum(skipped.values()):,} images in '{folder}' are not used ({shown}): convert them, or, "
        'if OpenCV can read them, add the end of their names to `extensions` of the data set'
    ]
