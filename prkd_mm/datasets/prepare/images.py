"""A look at image files, for the check of whole data sets."""

from collections.abc import Sequence
from os import path as osp

from PIL import Image
from rich.progress import track

from .source import some


def find_damaged(paths: Sequence[str]) -> list[str]:
    """Find the images that are none or are cut short, by reading them all.

    OpenCV, which loads them for training, fills up what is missing with grey
    and says nothing. A JPEG with other bytes somewhere in the middle still is
    one, so that is not found.

    Args:
        paths (Sequence[str]): The images.

    Returns:
        list[str]: A sentence that names them, or nothing.
    """
    damaged = []
    for path in track(paths, 'Reading the images'):
        try:
            with Image.open(path) as image:
                image.draft('L', (1, 1))  # all of the file, few pixels of it
                image.load()
        # what Pillow raises depends on the format that the bytes resemble
        except Exception:
            damaged.append(osp.join(*path.split('/')[-2:]))
    return [f'damaged images: {some(damaged)}'] if damaged else []
