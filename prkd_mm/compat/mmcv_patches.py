"""Patches for MMCV 2.1."""

from typing import Any, Callable, Optional

import cv2

from .wrapping import wrap


def _load(transform: Callable, self: Any, results: dict) -> Optional[dict]:
    try:
        return transform(self, results)
    except (cv2.error, AssertionError) as error:
        raise ValueError(
            f'{results["img_path"]!r} is not an image that can be read: repair or remove it'
        ) from error


def named_images() -> bool:
    """Name the file of an image that cannot be decoded.

    For an empty file, MMCV passes on the error of OpenCV (mmcv/transforms/loading.py).
    """
    from mmcv.transforms import LoadImageFromFile

    return wrap(LoadImageFromFile, 'transform', _load)
