"""A teacher's logits for K augmented views of each image, stored in files."""

import hashlib
import json
import zlib
from pathlib import Path
from typing import Optional, Union

import numpy as np
import torch
from torch import Tensor, nn

from ..files import write_json

_FORMAT = 1
_CHUNK = 4096  # images between two points to resume from
_HEADER = 'store.json'
OWN = 'own'  # a teacher with a data preprocessor of its own


def describe_normalisation(preprocessor: nn.Module) -> list:
    """What a data preprocessor makes of pixels: order, mean and deviation."""
    if not preprocessor._enable_normalize:
        return [preprocessor.to_rgb]
    return [
        preprocessor.to_rgb,
        preprocessor.mean.flatten().tolist(),
        preprocessor.std.flatten().tolist(),
    ]


def hash_of_weights(state: dict[str, Tensor]) -> str:
    """A hash of a ``state_dict``: names, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f'{name} {tuple(value.shape)} {value.dtype}'.encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


class TeacherLogits:
    """Logits of a teacher for K views of each of N images.

    Lies in a folder: ``logits.npy``, ``float16``, K × N × C, which is mapped
    and never read as a whole; with ``topk`` K × N × k, ``classes.npy`` with
    the classes that these belong to, and ``rest.npy`` with the logarithm of
    the mass of all others, which :meth:`get` spreads over them evenly. So
    probabilities of the k classes stay what they are, at any temperature of 1.
    ``store.json`` says whose logits of which images these are, and holds a
    checksum of each chunk that is done: writing goes on where it was cut off.

    Args:
        folder (str | Path): Where the files are.
        identity (dict, optional): What the store must be about: ``teacher``,
            the hash of its weights, ``source``, the images, their order,
            labels, classes and augmentation, ``seed`` of the augmentation,
            ``normalisation`` of the images that the teacher got.
            What is missing here is not checked. Defaults to None.
        complete (bool): Whether an unfinished store is refused. Defaults to
            True.
        verify (bool): Whether checksums are compared, which reads all of it.
            Defaults to True.

    Raises:
        FileNotFoundError: There is no store.
        ValueError: It is of another teacher or other images, unfinished, or
            damaged.
    """

    def __init__(
        self,
        folder: Union[str, Path],
        identity: Optional[dict] = None,
        complete: bool = True,
        verify: bool = True,
    ) -> None:
        self.folder = Path(folder)
        header = self.folder / _HEADER
        if not header.is_file():
            raise FileNotFoundError(
                f'there are no stored logits in {str(folder)!r}; to make '
                'them:\n  python tools/cache_teacher.py <config> --views 16 '
                f'--out {folder}'
            )
        self.header = json.loads(header.read_text())
        if self.header.get('format') != _FORMAT:
            raise ValueError(
                f'{header} has the format '
                f'{self.header.get("format")!r}, expected '
                f'{_FORMAT}; make the store again'
            )
        self.check(**identity or {})
        self._map('r' if complete else 'r+')
        if complete and self.missing():
            raise ValueError(
                f'the stored logits in {str(folder)!r} are unfinished: '
                f'{len(self.missing())} of {len(self.chunks())} parts are '
                'missing; the command that began them goes on: '
                'tools/cache_teacher.py'
            )
        if complete and verify:
            self._verify()

    @classmethod
    def create(
        cls,
        folder: Union[str, Path],
        views: int,
        images: int,
        classes: int,
        topk: Optional[int] = None,
        **identity,
    ) -> 'TeacherLogits':
        """Begin a store, or go on with the unfinished one in the folder.

        Args:
            folder (str | Path): Where to.
            views (int): K.
            images (int): N.
            classes (int): C.
            topk (int, optional): Store only that many. Defaults to None: all.
            **identity: As above, and whatever else the store is to remember.

        Raises:
            ValueError: A bad ``views`` or ``topk``, or the folder holds a
                store of something else.
        """
        if views < 1:
            raise ValueError(f'views must be at least 1, got {views}')
        if topk is not None and not 1 <= topk < classes:
            raise ValueError(
                f'topk must be in 1..{classes - 1}, below the number of classes, got {topk}'
            )
        identity = dict(identity, views=views, images=images, classes=classes, topk=topk)
        folder = Path(folder)
        if (folder / _HEADER).is_file():
            return cls(folder, identity, complete=False)
        folder.mkdir(parents=True, exist_ok=True)
        for name, dtype, width in _files(classes, topk):
            np.lib.format.open_memmap(folder / name, 'w+', dtype, (views, images, *width)).flush()
        _write(folder, dict(identity, format=_FORMAT, crc32={}))
        return cls(folder, complete=False)

    def check(self, **identity) -> None:
        """Refuse a store that is about something else; names as above.

        Raises:
            ValueError: Naming what differs.
        """
        for key, value in identity.items():
            if self.header.get(key) != value:
                raise ValueError(
                    f'the stored logits in {str(self.folder)!r} are of '
                    f'another {key}: {self.header.get(key)!r}, expected '
                    f'{value!r}; make a store for this one with '
                    'tools/cache_teacher.py, in another folder'
                )

    def _map(self, mode: str) -> None:
        files = _files(self.num_classes, self.header['topk'])
        self._arrays = [np.load(self.folder / name, mmap_mode=mode) for name, *_ in files]
        for array, (name, dtype, width) in zip(self._arrays, files):
            expected = (self.views, self.header['images'], *width)
            if array.shape != expected or array.dtype != dtype:
                raise ValueError(
                    f'{self.folder / name} has shape '
                    f'{array.shape}, expected {expected}; make '
                    'the store again'
                )

    @property
    def views(self) -> int:
        """K."""
        return self.header['views']

    @property
    def num_classes(self) -> int:
        """C."""
        return self.header['classes']

    def chunks(self) -> list:
        """All chunks, ``(view, first image, last image + 1)``, in order."""
        n = self.header['images']
        return [
            (view, start, min(start + _CHUNK, n))
            for view in range(self.views)
            for start in range(0, n, _CHUNK)
        ]

    def missing(self) -> list:
        """The chunks that are not stored yet."""
        return [chunk for chunk in self.chunks() if _name(chunk) not in self.header['crc32']]

    def _crc(self, chunk: tuple[int, int, int]) -> int:
        view, start, end = chunk
        crc = 0
        for array in self._arrays:
            crc = zlib.crc32(np.ascontiguousarray(array[view, start:end]), crc)
        return crc

    def _verify(self) -> None:
        for chunk in self.chunks():
            if self._crc(chunk) != self.header['crc32'][_name(chunk)]:
                raise ValueError(
                    f'the stored logits in {str(self.folder)!r} are damaged '
                    f'(view {chunk[0]}, images from {chunk[1]} on); remove '
                    'the folder and make them again'
                )

    def put(self, chunk: tuple[int, int, int], logits: Tensor) -> None:
        """Store the logits of a chunk, so that it counts as done.

        Args:
            chunk (tuple[int, int, int]): One of :meth:`missing`.
            logits (Tensor): ``(images of the chunk, C)``.

        Raises:
            ValueError: Logits that are not finite in ``float16``.
        """
        view, start, end = chunk
        parts = _pack(logits.float(), self.header['topk'])
        if not all(np.isfinite(part).all() for part in parts):
            raise ValueError(
                f'the teacher has logits that float16 cannot hold, up to '
                f'{logits.abs().max():g}; is it trained, and in evaluation '
                'mode?'
            )
        for array, part in zip(self._arrays, parts):
            array[view, start:end] = part
            array.flush()
        self.header['crc32'][_name(chunk)] = self._crc(chunk)
        _write(self.folder, self.header)

    def note(self, **values) -> None:
        """Remember something more in the header."""
        self.header.update(values)
        _write(self.folder, self.header)

    def get(self, view: int, index: np.ndarray) -> Tensor:
        """The logits of some images in one view: ``(B, C)``, ``float32``."""
        parts = [torch.from_numpy(array[view][index]) for array in self._arrays]
        if not self.header['topk']:
            return parts[0].float()
        values, classes, rest = parts
        others = self.num_classes - values.size(1)
        even = rest.float() - np.log(others)
        full = even[:, None].expand(-1, self.num_classes).clone()
        return full.scatter_(1, classes.long(), values.float())


def size_in_bytes(views: int, images: int, classes: int, topk: Optional[int] = None) -> int:
    """What a store takes on the disk."""
    each = sum(
        np.dtype(dtype).itemsize * int(np.prod(width)) for _, dtype, width in _files(classes, topk)
    )
    return views * images * each


def _files(classes: int, topk: Optional[int]) -> list:
    if not topk:
        return [('logits.npy', np.float16, (classes,))]
    return [
        ('logits.npy', np.float16, (topk,)),
        ('classes.npy', _index_type(classes), (topk,)),
        ('rest.npy', np.float16, ()),
    ]


def _index_type(classes: int) -> type:
    return np.int16 if classes <= 2**15 else np.int32


def _pack(logits: Tensor, topk: Optional[int]) -> list:
    if not topk:
        return [logits.cpu().numpy().astype(np.float16)]
    values, classes = logits.topk(topk)
    rest = logits.scatter(1, classes, -torch.inf).logsumexp(1)
    return [
        values.cpu().numpy().astype(np.float16),
        classes.cpu().numpy().astype(_index_type(logits.size(1))),
        rest.cpu().numpy().astype(np.float16),
    ]


def _name(chunk: tuple[int, int, int]) -> str:
    return f'{chunk[0]}/{chunk[1]}'


def _write(folder: Path, header: dict) -> None:
    write_json(folder / _HEADER, header)
