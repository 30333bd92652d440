"""Unpack archives that may be damaged or malicious, for ``prepare_data.py``."""

import errno
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from os import path as osp
from typing import Any, BinaryIO, NamedTuple, Optional

from rich import progress as rich

from .source import Source

MARGIN = 3  # times the official set: archives may contain extra files, such as those of macOS
MAX_RATIO = 20  # unpacked to packed size; photographs and CIFAR's arrays stay below 2

_DAMAGED = (
    EOFError,
    RuntimeError,  # encrypted, or compressed by an unsupported method
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
)


class Size(NamedTuple):
    """Size of unpacked archives."""

    files: int = 0  # number of files
    total: int = 0  # in bytes


NOTHING = Size()


class Member(NamedTuple):
    """A file in an archive."""

    name: str  # path in the archive
    size: int  # declared size in bytes; reading ends there
    open: Optional[Callable[[], Any]]  # opens the content; None for a link or a device


def unpack(archive: str, target: str, source: Source, before: Size = NOTHING) -> Size:
    """Unpack a zip or tar archive (compressed or not) into a folder.

    The list of files is checked before the first one is written. Only plain files inside ``target``
    are written, with default permissions. (The filter of ``tarfile`` for this is missing in older
    patch releases of Python.) The data set, ``source``, limits the number and size of the files,
    together with those of the archives that were unpacked ``before``; the sum is returned.

    Raises:
        ValueError: If the file is damaged, truncated, not an archive, contains links or paths
            outside of ``target``, or unpacks to much more than the data set.
        OSError: If the disk has too little free space.
    """
    target = osp.abspath(target)
    with _members(archive, 'Checking') as members:
        size = _check(archive, members, target, source, before)
    expect_space(target, size.total - before.total, f"unpacking '{archive}'")
    folders = set()
    with _members(archive, 'Unpacking') as members:
        for member in members:
            path = osp.normpath(osp.join(target, member.name))
            if osp.dirname(path) not in folders:
                os.makedirs(osp.dirname(path), exist_ok=True)
                folders.add(osp.dirname(path))
            assert member.open is not None  # _check refuses links and devices
            with member.open() as content, open(path, 'wb') as file:
                shutil.copyfileobj(content, file)
    return size


def progress_bar() -> rich.Progress:
    """Create a bar that counts bytes and shows the speed and the remaining time."""
    columns = rich.BarColumn(), rich.DownloadColumn(), rich.TransferSpeedColumn()
    return rich.Progress('{task.description}', *columns, rich.TimeRemainingColumn())


def expect_space(folder: str, size: int, purpose: str) -> None:
    """Raise an OSError if the disk of a folder has too few free bytes for an action."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(
            f"the disk of '{folder}' is too full: {purpose} needs {size / 1e6:,.0f} MB, but "
            f'{free / 1e6:,.0f} MB are free; free some space, or choose a folder on another disk '
            'with --root'
        )


def _check(
    archive: str, members: Iterator[Member], target: str, source: Source, before: Size
) -> Size:
    """Raise an error for unsafe archives; return the size of all archives."""
    count, total = before
    packed = osp.getsize(archive)
    for member in members:
        path = osp.normpath(osp.join(target, member.name))
        if member.open is None or not path.startswith(target + os.sep):
            raise ValueError(
                f"unsafe archive '{archive}': '{member.name}' is a link or escapes the target "
                'folder'
            )
        count += 1
        total += member.size
        if count > MARGIN * source.num_files or total > MARGIN * source.num_bytes:
            others = 'with the archives before it, ' if before.files else ''
            raise ValueError(
                f"unsafe archive '{archive}': {others}it unpacks to at least {count:,} files of "
                f'{total / 1e6:,.0f} MB, but {source.title} has about {source.num_files:,} files '
                f'of {source.num_bytes / 1e6:,.0f} MB; use an archive of this data set'
            )
        if total - before.total > MAX_RATIO * packed:
            raise ValueError(
                f"unsafe archive '{archive}': it unpacks to more than {MAX_RATIO} times its "
                'size, unlike any archive of images; use another archive'
            )
    return Size(count, total)


@contextmanager
def _members(archive: str, action: str) -> Iterator[Iterator[Member]]:
    label = f'{action} {osp.basename(archive)}'
    with progress_bar() as progress, progress.open(archive, 'rb', description=label) as file:
        members = _zip_members if file.read(2) == b'PK' else _tar_members
        file.seek(0)
        try:
            yield members(file)
            file.seek(0, os.SEEK_END)  # completes the bar: a zip ends with its index
        except OSError as e:
            if e.errno not in (None, errno.EINVAL):  # these two come from damaged bytes
                raise
            raise _damaged(archive, e) from e
        except _DAMAGED as e:
            raise _damaged(archive, e) from e


def _damaged(archive: str, error: Exception) -> ValueError:
    reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(':')
    return ValueError(
        f"'{archive}' is damaged, cut short or not a zip or tar archive ({reason}); get it again"
    )


def _zip_members(file: BinaryIO) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield Member(info.filename, info.file_size, partial(archive.open, info))


def _tar_members(file: BinaryIO) -> Iterator[Member]:
    with tarfile.open(fileobj=file) as archive:
        for info in archive:
            if not info.isdir():
                content = partial(archive.extractfile, info) if info.isreg() else None
                yield Member(info.name, info.size, content)
