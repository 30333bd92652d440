"""Crop and flip whole batches, by choices that depend on nothing but names.

What happens to an image is a function of (seed, epoch, index of the image).
Neither workers, ranks, the order of the images nor a resumed run can change
it, and no generator has a state to be saved.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_WORD = 2**64
_CROP, _FLIP = range(2)  # streams


def splitmix64(state: int, index: np.ndarray) -> np.ndarray:
    """Outputs of the generator SplitMix64, each without those before it.

    Its n-th state is ``state + n·0x9E3779B97F4A7C15 mod 2^64``, and an output
    is a mix of the bits of one state: Steele, Lea and Flood, `Fast splittable
    pseudorandom number generators <https://doi.org/10.1145/2714064.2660195>`_
    (OOPSLA 2014), with the constants of Vigna's reference code.

    Args:
        state (int): The state to start from (modulo 2^64).
        index (np.ndarray): Integers; 0 is the first output.

    Returns:
        np.ndarray: ``uint64``, in the shape of ``index``.
    """
    z = np.asarray(index).astype(np.uint64)  # arrays wrap without a warning
    z = (z + np.uint64(1)) * np.uint64(_GOLDEN) + np.uint64(state % _WORD)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@lru_cache(maxsize=64)
def _state(*names: int) -> int:
    state = 0
    for name in names:
        state = int(splitmix64(state + name, np.zeros(1, np.int64))[0])
    return state


def random_words(seed: int, epoch: int, stream: int, index: np.ndarray) -> np.ndarray:
    """64 random bits for each image.

    Args:
        seed (int): The seed of the run.
        epoch (int): The epoch, or whatever else is to change the bits.
        stream (int): Which of an image's random words.
        index (np.ndarray): Which images, by their place in the data set.

    Returns:
        np.ndarray: ``uint64``, one for each of ``index``.
    """
    return splitmix64(_state(seed, epoch, stream), index)


def choose(
    seed: int,
    epoch: int,
    index: np.ndarray,
    places: tuple[int, int] = (1, 1),
    flip_prob: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw each image's crop and flip, all independent and uniform.

    Args:
        seed (int): The seed of the run.
        epoch (int): The epoch.
        index (np.ndarray): Which images, by their place in the data set.
        places (tuple[int, int]): How many rows, and how many columns, a crop
            can start at. Defaults to (1, 1).
        flip_prob (float): How probable a flip is. Defaults to 0.

    Returns:
        tuple: ``top`` in ``0..places[0]-1`` and ``left`` in
        ``0..places[1]-1``, ``int64``, and ``flip``, boolean.
    """
    word = random_words(seed, epoch, _CROP, index)
    half = np.uint64(32)
    # the upper bits of a 32-bit word times n: 0..n-1, even to n/2^32
    top = ((word >> half) * np.uint64(places[0])) >> half
    left = ((word & np.uint64(2**32 - 1)) * np.uint64(places[1])) >> half
    word = random_words(seed, epoch, _FLIP, index) >> np.uint64(11)
    flip = word < np.uint64(round(flip_prob * 2**53))
    return top.astype(np.int64), left.astype(np.int64), flip


def crop_and_flip(
    images: Tensor,
    top: np.ndarray,
    left: np.ndarray,
    flip: np.ndarray,
    size: tuple[int, int],
    padding: int = 0,
) -> Tensor:
    """Pad with zeros, crop and mirror: each image its own way.

    The same as torchvision's ``pad``, ``crop`` and, where ``flip`` says so,
    ``hflip``, image by image. All are copied by one gather from a batch
    padded once as it is and once mirrored; nothing waits for the device.

    Args:
        images (Tensor): ``(B, C, H, W)``, of any type and on any device.
        top (np.ndarray): ``(B, )``, first row in the padded image.
        left (np.ndarray): ``(B, )``, first column in the padded image.
        flip (np.ndarray): ``(B, )``, whether to mirror what was cropped.
        size (tuple[int, int]): Height and width of the crops.
        padding (int): Pixels to add on each side. Defaults to 0.

    Returns:
        Tensor: ``(B, C, *size)``, a new one.

    Raises:
        ValueError: If a crop would reach out of its padded image.
    """
    b, c, h, w = images.shape
    rows, columns = h + 2 * padding, w + 2 * padding
    for name, start, most in (('top', top, rows - size[0]), ('left', left, columns - size[1])):
        if start.min() < 0 or start.max() > most:
            raise ValueError(
                f'crop_and_flip: {name} must be in 0..{most} to cut {size} from {(rows, columns)}'
            )
    mirrors = 2 if flip.any() else 1
    both = images.new_zeros(mirrors, b, c, rows, columns)
    inner = both[..., padding : padding + h, padding : padding + w]
    inner[0] = images
    if mirrors == 2:
        inner[1] = images.flip(-1)
    # the crop at `left`, mirrored, is the mirror image's from the right
    left = np.where(flip, columns - size[1] - left, left)
    start = ((flip * b + np.arange(b)) * c * rows + top) * columns + left
    # a view of an image from each place in memory on, of which we take B: to
    # copy them so is 6 to 17 times faster than to index the dimensions
    last = both.numel() - ((c - 1) * rows + size[0] - 1) * columns - size[1]
    views = both.as_strided((last + 1, c, *size), (1, rows * columns, columns, 1))
    index = torch.from_numpy(start).to(images.device, non_blocking=True)
    return views.index_select(0, index)
