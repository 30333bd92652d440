"""Build the data set inside of :class:`PackedImages` or :class:`ImageViews`."""

import os
from os import path as osp
from typing import Optional

from mmengine.dataset import BaseDataset
from mmpretrain.registry import DATASETS

from ..config import is_type
from .prepare.source import CIFAR_10, CIFAR_100

_CIFAR = dict(CIFAR10=CIFAR_10, CIFAR100=CIFAR_100)


def build_data_set(cfg: dict, pipeline: Optional[list] = None) -> BaseDataset:
    """Build a data set, and say what to do if its files are not there.

    Args:
        cfg: Config of the data set.
        pipeline: Pipeline that replaces that of the config. None: its own.

    Returns:
        BaseDataset: The data set.

    Raises:
        FileNotFoundError: If there are no images in ``data_root``.
    """
    try:
        return DATASETS.build(dict(cfg, pipeline=pipeline) if pipeline else cfg)
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
    kind = str(getattr(cfg['type'], '__name__', cfg['type'])).rpartition('.')[2]
    return (
        f"{kind}: there is no '{missing}'. Put the images into '{root}', or set data_root to the "
        'folder that holds them'
    )
