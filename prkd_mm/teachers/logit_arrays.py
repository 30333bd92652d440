"""The arrays that stored logits consist of: all logits, or the k largest."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

MANY_CLASSES = 1000  # with this number or more, only the largest logits are kept by default
DEFAULT_TOPK = 32
_ROUNDING = 0.05  # of a logit by float16, the largest that is accepted for any logits
_RELATIVE_ROUNDING = 1e-3  # the same, relative to the range of the logits of an image


class ArrayFile(NamedTuple):
    """One file of a store."""

    name: str
    dtype: type  # of the elements
    width: tuple  # shape of the values of one image


class Chunk(NamedTuple):
    """Consecutive images in one view, which are stored together."""

    view: int
    start: int
    end: int

    @property
    def name(self) -> str:
        return f'{self.view}/{self.start}'

    @property
    def images(self) -> int:
        return self.end - self.start


def describe_arrays(classes: int, topk: Optional[int]) -> list[ArrayFile]:
    """The files of a store of ``classes`` logits, or of the ``topk`` largest."""
    if not topk:
        return [ArrayFile('logits.npy', np.float16, (classes,))]
    return [
        ArrayFile('logits.npy', np.float16, (topk,)),
        ArrayFile('classes.npy', _index_type(classes), (topk,)),
        ArrayFile('rest.npy', np.float16, ()),
    ]


def choose_topk(topk: Optional[int], classes: int) -> Optional[int]:
    """Number of logits to keep per image, or None for all; a request of 0 means all."""
    if topk is None and classes >= MANY_CLASSES:
        return DEFAULT_TOPK
    return topk or None


def check_topk(topk: Optional[int], classes: int) -> None:
    """Raise a ValueError for a number of logits to keep that is not below that of the classes."""
    if topk is not None and not 1 <= topk < classes:
        raise ValueError(
            f'topk must be in 1..{classes - 1}, below the number of classes, got {topk}'
        )


def size_in_bytes(views: int, images: int, classes: int, topk: Optional[int] = None) -> int:
    """Size of a store in bytes."""
    bytes_per_image = sum(
        np.dtype(file.dtype).itemsize * int(np.prod(file.width))
        for file in describe_arrays(classes, topk)
    )
    return views * images * bytes_per_image


def create_arrays(folder: Path, views: int, images: int, classes: int, topk: Optional[int]) -> None:
    """Create the files of a store, and reserve their space."""
    files = describe_arrays(classes, topk)
    for name, dtype, width in files:
        shape = (views, images, *width)
        np.lib.format.open_memmap(folder / name, 'w+', dtype, shape).flush()
    _reserve([folder / name for name, *_ in files])


def _reserve(paths: Sequence[Path]) -> None:
    """Reserve the space of sparse files, so that a full disk is an error here.

    Writing to their memory maps would end the process with a signal. A file system that cannot
    reserve space gets zeros written.
    """
    if not hasattr(os, 'posix_fallocate'):
        return
    for path in paths:
        try:
            with open(path, 'r+b') as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
                return  # neither of the two
            for each in paths:
                each.unlink()
            raise OSError(error.errno, error.strerror, str(path)) from error


def readable(size: int) -> str:
    """A size in bytes as MB or GB."""
    return f'{size / 1e9:.3g} GB' if size >= 1e9 else f'{size / 1e6:.3g} MB'


def pack(logits: Tensor, topk: Optional[int]) -> list[np.ndarray]:
    """The arrays of a store for logits ``(N, C)``."""
    if not topk:
        return [logits.cpu().numpy().astype(np.float16)]
    values, classes = logits.topk(topk)
    rest = logits.scatter(1, classes, -torch.inf).logsumexp(1)
    return [
        values.cpu().numpy().astype(np.float16),
        classes.cpu().numpy().astype(_index_type(logits.size(1))),
        rest.cpu().numpy().astype(np.float16),
    ]


def check_rounding(logits: Tensor) -> None:
    """Raise a ValueError if ``float16`` changes the differences of the logits ``(N, C)`` too much.

    Only a common offset of all classes, which changes no probability, can do this. Logits below 128
    are off by at most 1/32. Without an offset, there are logits on both sides of 0, so that none is
    larger than their range, of which the rounding is at most 1/2048.
    """
    centered = logits - logits.mean(1, keepdim=True)
    stored = logits.half().float()
    error = (stored - stored.mean(1, keepdim=True) - centered).abs().amax(1)
    span = logits.amax(1) - logits.amin(1)
    excess = error - (_RELATIVE_ROUNDING * span).clamp(min=_ROUNDING)
    worst = int(excess.nan_to_num(nan=-1.0).argmax())  # NaN: a class has the probability 0
    if excess[worst] > 0:
        raise ValueError(
            f'float16 would round the logits of an image by {error[worst]:.2g}, which differ by '
            f'{span[worst]:.3g}, since they have a common offset of {logits[worst].mean():.4g}; '
            f'expected at most {_ROUNDING}. Subtract the offset from the biases of the last layer '
            'of the teacher, which does not change its probabilities, or use the teacher without '
            'stored logits'
        )


def unpack(parts: list[Tensor], num_classes: int) -> Tensor:
    """Logits ``(N, C)`` from the arrays of a store, ``float32``."""
    if len(parts) == 1:
        return parts[0].float()
    values, classes, rest = parts
    others = num_classes - values.size(1)
    even = rest.float() - np.log(others)
    full = even[:, None].expand(-1, num_classes).clone()
    return full.scatter_(1, classes.long(), values.float())


def _index_type(classes: int) -> type:
    return np.int16 if classes <= 2**15 else np.int32
