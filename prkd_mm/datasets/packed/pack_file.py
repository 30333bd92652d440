"""Decode a data set once, into a file that many processes can map into memory."""

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import path as osp
from tempfile import TemporaryFile
from typing import Optional

import numpy as np
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmengine.dataset import BaseDataset
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from mmpretrain.datasets.transforms import PackInputs

from ...files import atomic_file

_FORMAT = 1  # bump to invalidate existing files
_CHUNK = 1024  # number of images decoded before each write


class Originals:
    """Images of a data set, and their fingerprint.

    Each image is transformed by ``once``: ``LoadImageFromFile`` (always used for files),
    ``Resize``.

    Attributes:
        root: Folder of the data set, or '' if it has none.
        labels: Labels.
        fingerprint: Hash of the paths in ``root`` (of the pixels, for images in memory), the
            transforms, labels and classes.
        state: Hash of the sizes and modification times of the files.
        name: Name of the packed file.

    Raises:
        ValueError: If an image does not have exactly one label.
    """

    def __init__(self, dataset: BaseDataset, once: Sequence[BaseTransform] = ()) -> None:
        kind = type(dataset).__name__
        self.root = getattr(dataset, 'data_root', None) or ''
        self._infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        steps = {type(step): step for step in once}
        self._load = steps.pop(LoadImageFromFile, LoadImageFromFile())
        self._then = list(steps.values())
        self.labels = [info.get('gt_label') for info in self._infos]
        if not self.labels or not all(
            isinstance(label, (int, np.integer)) for label in self.labels
        ):
            raise ValueError(
                f'PackedImages: {kind} must have images, each with one label; '
                'use it without PackedImages'
            )
        self._identify(
            [self.labels, dataset.metainfo.get('classes'), *map(repr, [self._load, *self._then])]
        )
        self.name = (
            '-'.join([kind, *filter(None, [getattr(dataset, 'split', None)]), self.fingerprint])
            + '.npy'
        )

    def _identify(self, named: list) -> None:
        content, state = hashlib.sha256(), hashlib.sha256()
        content.update(json.dumps(named, default=int).encode())
        for info in self._infos:
            if 'img' in info:
                content.update(repr(np.shape(info['img'])).encode())
                content.update(np.ascontiguousarray(info['img']))
                continue
            path = info['img_path']
            stat = os.stat(path)
            state.update(f'{stat.st_size} {stat.st_mtime_ns} '.encode())
            if path.startswith(self.root):  # the folder may be moved
                path = path[len(self.root) :]
            content.update(f'{path}\n'.encode())
        self.fingerprint = content.hexdigest()[:16]
        self.state = state.hexdigest()

    def __len__(self) -> int:
        return len(self._infos)

    def describe(self, i: int) -> str:
        """Describe the i-th image, for error messages."""
        return self._infos[i].get('img_path', f'image {i}')

    def image(self, i: int) -> np.ndarray:
        """Return the i-th image, C × H × W, equal to that of the stock pipeline."""
        info = self._infos[i]
        if 'img' not in info:
            info = self._load(dict(info))
        for step in self._then:
            info = step(dict(info))
        image = PackInputs.format_input(info['img']).numpy()
        if image.dtype != np.uint8:
            raise ValueError(
                f'PackedImages: {self.describe(i)} is {image.dtype}, but must be uint8'
            )
        return image

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield all images in order, in chunks that are decoded in parallel."""
        first = self.image(0)
        with ThreadPoolExecutor() as pool:  # OpenCV decodes without the GIL
            for start in range(0, len(self), _CHUNK):
                numbers = range(start, min(start + _CHUNK, len(self)))
                images = list(pool.map(self.image, numbers))
                for i, image in zip(numbers, images):
                    if image.shape != first.shape:
                        raise ValueError(
                            'PackedImages: all images must have one size (channels × height × '
                            f'width), but {self.describe(0)} has {first.shape} and '
                            f'{self.describe(i)} has {image.shape}; use ImageViews, with a '
                            'pipeline that resizes'
                        )
                yield np.stack(images)


def pack(originals: Originals, folders: Sequence[str] = ()) -> tuple[str, np.ndarray]:
    """Put all images into one array ``(N, C, H, W)``, ``uint8``, and return its file and the array.

    The first of the ``folders`` with an intact file, which is up to date, provides it. If there is
    none, rank 0 writes it into the first one that is not read-only. An empty list means an array in
    memory, and '' as its file.

    Raises:
        ValueError: If the sizes of the images differ or they are not ``uint8``.
        OSError: If the file cannot be written.
    """
    if not folders:
        return '', np.concatenate(list(originals.chunks()))
    paths = [osp.join(folder, originals.name) for folder in folders]
    path = _find_or_write(originals, paths) if is_main_process() else None
    barrier()
    if path is None:  # on the disk of another machine, the file may still be missing
        path = _find_or_write(originals, paths)
    return path, np.asarray(map_file(path))


def default_folders(root: str) -> list[str]:
    """List the folders for the packed file: the data folder, then the cache of the user."""
    if not root:
        return []
    cache = os.environ.get('XDG_CACHE_HOME') or osp.expanduser('~/.cache')
    return [root, osp.join(cache, 'prkd_mm', osp.abspath(root).lstrip(os.sep))]


def map_file(path: str) -> np.memmap:
    """Map a file of images into memory; changes are not written back."""
    return np.load(path, mmap_mode='c')  # torch warns about read-only arrays


def _find_or_write(originals: Originals, paths: Sequence[str]) -> str:
    faults = {}
    for path in paths:
        faults[path] = _fault(originals, path)
        if faults[path] is None:
            return path
    path = _first_writable(paths)
    if path != paths[0]:
        print_log(
            f"'{osp.dirname(paths[0])}' is read-only: the packed images go to "
            f"'{osp.dirname(path)}'; use the option `cache` of PackedImages to change this",
            logger='current',
        )
    print_log(f"'{path}' {faults[path]}: packing {len(originals):,} images", logger='current')
    _write(originals, path)
    return path


def _first_writable(paths: Sequence[str]) -> str:
    faults = []
    for path in paths:
        try:
            os.makedirs(osp.dirname(path), exist_ok=True)
            # os.access is not reliable on network file systems
            with TemporaryFile(dir=osp.dirname(path)):
                return path
        except OSError as error:
            faults.append(error)
    raise OSError(
        f"PackedImages: cannot write into '{osp.dirname(paths[0])}' ({faults[0]}); choose another "
        'folder with its option `cache`'
    ) from faults[0]


def _fault(originals: Originals, path: str) -> Optional[str]:
    """Return why a file must be rebuilt, or None."""
    if not osp.isfile(path):
        return 'does not exist'
    try:
        images = map_file(path)
        with open(path, 'rb') as file:
            file.seek(images.offset + images.nbytes)
            notes = json.load(file)
        if notes != dict(notes, format=_FORMAT, state=originals.state):
            return 'is out of date'
        return None if notes['crc32'] == zlib.crc32(images) else 'is damaged'
    # the type of the error depends on the damaged bytes
    except Exception:
        return 'is damaged or cut short'


def _write(originals: Originals, path: str) -> None:
    from rich.progress import track  # slow to import, and rarely needed

    crc = 0
    total = -(-len(originals) // _CHUNK)
    with atomic_file(path) as file:
        for images in track(originals.chunks(), 'Decoding', total=total):
            if not file.tell():
                shape = (len(originals), *images.shape[1:])
                header = dict(descr='|u1', fortran_order=False, shape=shape)
                np.lib.format.write_array_header_1_0(file, header)
            file.write(images)
            crc = zlib.crc32(images, crc)
        # a trailer after the array: ignored by numpy.load, missing if the file is truncated
        file.write(json.dumps(dict(format=_FORMAT, state=originals.state, crc32=crc)).encode())
