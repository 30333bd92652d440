"""A teacher's logits for K augmented views of each image, stored in files."""

import hashlib
import json
import zlib
from pathlib import Path
from typing import Literal, Optional, Union

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from ..cli import command_of
from ..files import write_json
from ..randomness import spread_indices
from .logit_arrays import (
    Chunk,
    check_rounding,
    check_topk,
    create_arrays,
    describe_arrays,
    pack,
    unpack,
)

_FORMAT = 1
_CHUNK = 4096  # images per chunk; an interrupted store resumes at a chunk
HEADER = 'store.json'
OWN_NORMALIZATION = 'own'  # a teacher with its own data preprocessor
_KEYS = {'views', 'images', 'classes', 'topk', 'crc32'}  # of a header; others identify the content
_CHANGING = ('crc32', 'metrics', 'validation')
COMPARED = 8  # images whose logits a teacher computes again, to compare them
_TOLERANCE = 0.05  # of the largest logit, without the mean of its image


class StoreMismatch(ValueError):
    """A folder holds a store of another teacher, other images or other options."""


def hash_of_weights(state: dict[str, Tensor]) -> str:
    """Hash of a ``state_dict``: names, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f'{name} {tuple(value.shape)} {value.dtype}'.encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


class TeacherLogits:
    """Logits of a teacher for K views of each of N images.

    The folder contains ``logits.npy``, a memory-mapped ``float16`` array of shape K × N × C. With
    ``topk``, its shape is K × N × k, ``classes.npy`` contains the classes of these logits, and
    ``rest.npy`` the log-sum-exp of the logits of all other classes, which :meth:`get` spreads
    evenly over them. The probabilities of the k classes are thus exact at a temperature of 1.
    ``store.json`` identifies the teacher and the images, and contains a checksum of each finished
    chunk, so that an interrupted store can be resumed. Several processes can fill one store at the
    same time.

    Args:
        folder (str | Path): The folder.
        identity (dict, optional): Expected properties of the store: ``teacher``, the hash of the
            teacher's weights and of its own normalization, if it has one; ``source``, a hash of the
            images, their order, labels, classes and augmentation; ``seed`` of the augmentation;
            ``normalization`` of the images that the teacher received. Missing keys are not checked.
            Defaults to None.
        complete (bool): Whether to reject an unfinished store. Defaults to True.
        verify (bool): Whether to compare checksums, which reads the whole store. Defaults to True.

    Raises:
        FileNotFoundError: If there is no store.
        ValueError: If it belongs to another teacher or other images, or is unfinished or damaged.
    """

    def __init__(
        self,
        folder: Union[str, Path],
        identity: Optional[dict] = None,
        complete: bool = True,
        verify: bool = True,
    ) -> None:
        self.folder = Path(folder)
        self.header: dict = {}
        if not (self.folder / HEADER).is_file():
            raise FileNotFoundError(
                f'there are no stored logits in {str(folder)!r}; to create them:\n'
                f'  {command_of("cache_teacher.py")} <config> --views 16 --out {folder}'
            )
        self.refresh()
        self.check(**identity or {})
        missing = self.missing()
        self._map('r+' if missing and not complete else 'r')
        if complete and missing:
            raise ValueError(
                f'the stored logits in {str(folder)!r} are unfinished: {len(missing)} of '
                f'{len(self.chunks())} parts are missing; repeat the cache_teacher.py command that '
                'started them'
            )
        if complete and verify:
            self.verify()

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
        """Create a store of K views of N images, or resume the unfinished one in the folder.

        Args:
            folder: The folder.
            views, images, classes: K, N and C.
            topk: Number of logits to keep per image; None keeps all.
            **identity: As in the constructor, and further values for the header.

        Raises:
            ValueError: If ``views`` or ``topk`` is out of range, or the folder holds another store.
        """
        if views < 1:
            raise ValueError(f'views must be at least 1, got {views}')
        check_topk(topk, classes)
        identity = dict(identity, views=views, images=images, classes=classes, topk=topk)
        folder = Path(folder)
        if folder.is_file():
            raise ValueError(f'{str(folder)!r} is a file; name a folder for the logits')
        folder.mkdir(parents=True, exist_ok=True)
        with _header_lock(folder):
            if (folder / HEADER).is_file():
                return cls(folder, identity, complete=False)
            create_arrays(folder, views, images, classes, topk)
            write_json(folder / HEADER, dict(identity, format=_FORMAT, crc32={}))
        return cls(folder, complete=False)

    def refresh(self) -> None:
        """Read the header again to see the chunks that other processes have stored."""
        path = self.folder / HEADER
        try:
            header = dict(json.loads(path.read_text()))
            if 'normalisation' in header:  # the spelling of older stores
                header['normalization'] = header.pop('normalisation')
            if header.get('format') == _FORMAT and (lacking := sorted(_KEYS - header.keys())):
                raise ValueError(f'it has no {", ".join(lacking)}')
        except (TypeError, ValueError) as error:
            raise ValueError(f"'{path}' is damaged ({error}); create the store again") from error
        if header.get('format') != _FORMAT:
            raise ValueError(
                f'{path} has the format {header.get("format")!r}, expected '
                f'{_FORMAT}; create the store again'
            )
        if self.header and _identity(header) != _identity(self.header):
            raise StoreMismatch(
                f'another store has replaced the one in {str(self.folder)!r} during this run; '
                'give each teacher and data set a folder of its own'
            )
        self.header = header

    def check(self, **identity) -> None:
        """Raise a StoreMismatch for the first property that differs; keys as in the constructor."""
        for key, value in identity.items():
            if self.header.get(key) != value:
                raise StoreMismatch(
                    f'the stored logits in {str(self.folder)!r} do not match: '
                    f'{key} is {self.header.get(key)!r}, expected {value!r}; rename that '
                    'folder, or use another one: model.teacher_logits=dict(views=K, '
                    f'folder=FOLDER), or `{command_of("cache_teacher.py")} <config> --out FOLDER`'
                )

    def _map(self, mode: Literal['r', 'r+']) -> None:
        self._arrays = []
        for name, dtype, width in describe_arrays(self.num_classes, self.header['topk']):
            try:
                array = np.load(self.folder / name, mmap_mode=mode)
            except (FileNotFoundError, ValueError, EOFError) as error:
                raise ValueError(
                    f'{self.folder / name} is damaged ({error}); create the store again'
                ) from error
            expected = (self.views, self.header['images'], *width)
            if array.shape != expected or array.dtype != dtype:
                raise ValueError(
                    f'{self.folder / name} has shape {array.shape}, expected '
                    f'{expected}; create the store again'
                )
            self._arrays.append(array)

    @property
    def views(self) -> int:
        """Number of views K."""
        return self.header['views']

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return self.header['classes']

    def chunks(self) -> list[Chunk]:
        """All chunks, in order."""
        n = self.header['images']
        return [
            Chunk(view, start, min(start + _CHUNK, n))
            for view in range(self.views)
            for start in range(0, n, _CHUNK)
        ]

    def missing(self) -> list[Chunk]:
        """The chunks that are not stored yet."""
        return [chunk for chunk in self.chunks() if chunk.name not in self.header['crc32']]

    def lock(self, chunk: Chunk) -> FileLock:
        """The lock to hold while the logits of a chunk are computed."""
        return FileLock(self.folder / f'.{chunk.view}-{chunk.start}.lock')

    def remove_locks(self) -> None:
        """Remove the lock files of a finished store.

        A process that still waits for one of them finds its chunk stored.
        """
        for path in self.folder.glob('.*-*.lock'):
            path.unlink(missing_ok=True)

    def _crc(self, chunk: Chunk) -> int:
        crc = 0
        for array in self._arrays:
            crc = zlib.crc32(np.ascontiguousarray(array[chunk.view, chunk.start : chunk.end]), crc)
        return crc

    def verify(self) -> None:
        """Raise a ValueError unless the checksums of all stored chunks are correct."""
        for chunk in self.chunks():
            stored = self.header['crc32'].get(chunk.name)
            if stored is not None and stored != self._crc(chunk):
                raise ValueError(
                    f'the stored logits in {str(self.folder)!r} are damaged (view {chunk.view}, '
                    f'images from {chunk.start} on); remove the folder and create them again'
                )

    def compare(self, view: int, index: np.ndarray, logits: Tensor) -> None:
        """Raise a StoreMismatch if a teacher now computes other logits ``(B, C)`` for some images.

        Kernels and devices round differently, so up to 5 % of the largest logit is accepted, and
        twice the rounding of ``float16``. The largest is that without the mean of its image, which
        says nothing about the classes.
        """
        stored, *classes = self._rows(view, index)[:2]
        now = logits.float().cpu()
        largest = (now - now.mean(1, keepdim=True)).abs().max()
        if now.size(1) == self.num_classes and classes:  # only the largest are stored
            now = now.gather(1, classes[0].long())
        if now.shape == stored.shape:
            difference = (now - stored.float()).abs().max()
            rounding = torch.finfo(torch.float16).eps * now.abs().max()
            if difference <= _TOLERANCE * largest + rounding:  # false for NaN
                return
            found = (
                f'they differ by up to {difference:.2g}, where the largest, without the mean of '
                f'its image, is {largest:.2g}'
            )
        else:
            found = f'it computes {logits.size(1)} for each image, {self.num_classes} are stored'
        raise StoreMismatch(
            f'the teacher does not compute the logits that are stored in {str(self.folder)!r}: '
            f'{found}. The settings of its net, its images or a library have changed since then, '
            'or the augmentation is not reproducible; rename that folder, so that they are '
            'computed again'
        )

    def put(self, chunk: Chunk, logits: Tensor) -> None:
        """Store the logits ``(images, C)`` of a missing chunk; ``float16`` must represent them.

        Raises:
            ValueError: If it does not, or if there is another number of classes.
        """
        if logits.size(1) != self.num_classes:
            raise ValueError(
                f'the teacher computes {logits.size(1)} logits per image, expected one for each of '
                f'{self.num_classes} classes; use a teacher with the classes of the student'
            )
        logits = logits.float()
        parts = pack(logits, self.header['topk'])
        if not all(np.isfinite(part).all() for part in parts):
            raise ValueError(
                'the teacher has logits that float16 cannot represent, up to '
                f'{logits.abs().max():g}; check that it is trained and in evaluation mode'
            )
        check_rounding(logits)
        chunk = Chunk(*chunk)
        for array, part in zip(self._arrays, parts):
            array[chunk.view, chunk.start : chunk.end] = part
            array.flush()
        self._update(crc32={chunk.name: self._crc(chunk)})

    def note(self, metrics: dict[str, float], images: Optional[str] = None) -> None:
        """Add metrics of the teacher, and the hash of the validation set, to the header."""
        self._update(metrics=metrics, validation=dict(images=images))

    def has_metrics(self, images: Optional[str]) -> bool:
        """Whether the header has metrics, and not those on another validation set."""
        known = self.header.get('validation', {}).get('images')
        return bool(self.header.get('metrics')) and (None in (known, images) or known == images)

    def _update(self, **entries: dict) -> None:
        with _header_lock(self.folder):
            self.refresh()
            for name, values in entries.items():
                before = self.header.get(name, {}) if name == 'crc32' else {}
                self.header[name] = dict(before, **values)
            write_json(self.folder / HEADER, self.header)

    def get(self, view: int, index: np.ndarray) -> Tensor:
        """The logits of some images in one view: ``(B, C)``, ``float32``."""
        return unpack(self._rows(view, index), self.num_classes)

    def _rows(self, view: int, index: np.ndarray) -> list[Tensor]:
        return [torch.from_numpy(array[view][index]) for array in self._arrays]

    def sample(self, count: int) -> Optional[Tensor]:
        """Logits ``(N, C)`` of at most ``count`` images of the whole set, in the first stored view.

        It is None if no view is complete.
        """
        unfinished = {chunk.view for chunk in self.missing()}
        view = next((view for view in range(self.views) if view not in unfinished), None)
        return (
            None if view is None else self.get(view, spread_indices(self.header['images'], count))
        )


def _identity(header: dict) -> dict:
    """The entries of a header that never change."""
    return {key: value for key, value in header.items() if key not in _CHANGING}


def _header_lock(folder: Path) -> FileLock:
    return FileLock(folder / f'.{HEADER}.lock')
