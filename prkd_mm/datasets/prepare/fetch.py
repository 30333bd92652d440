"""Download, unpack and copy with progress bars, for ``prepare_data.py``."""

import gzip
import lzma
import os
import shutil
import socket
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from http.client import HTTPException
from os import path as osp
from typing import IO, BinaryIO, Optional
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from mmpretrain.datasets.utils import calculate_md5
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

ATTEMPTS = 5
TIMEOUT = 30  # seconds without a byte

_LOST = (URLError, ConnectionError, HTTPException, socket.timeout)
_DAMAGED = (
    EOFError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    tarfile.TarError,
    zipfile.BadZipFile,
)


def _progress() -> Progress:
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )


def download(url: str, path: str, md5: str) -> None:
    """Download a file and verify it, resuming an interrupted download.

    Until it is verified the file is called ``path + '.part'``.

    Args:
        url: Address of the file.
        path: Path of the local file.
        md5: Expected MD5.

    Raises:
        ConnectionError: If the download is incomplete after several attempts.
            The received part is kept.
        ValueError: If the MD5 differs. The file is removed.
    """
    part = f'{path}.part'
    with _progress() as progress:
        task = progress.add_task(osp.basename(path), total=None)
        for attempt in range(ATTEMPTS):
            time.sleep(2**attempt - 1)
            try:
                _receive(url, part, progress, task)
                error = None
            except _LOST as e:
                error = e if isinstance(e, HTTPError) else (getattr(e, 'reason', e))
            # 4xx: another attempt would fail in the same way
            if not error or getattr(error, 'code', 500) < 500:
                break
            progress.console.print(f'{error}', markup=False)
    if error:
        kept = (
            f"; the received part is kept in '{part}', and the same command resumes from it"
            if osp.isfile(part)
            else ''
        )
        raise ConnectionError(
            f'cannot download {url}: {error}{kept}; or get '
            'the archive elsewhere and name it with '
            '--source'
        )
    digest = calculate_md5(part)
    if digest != md5:
        os.remove(part)
        raise ValueError(
            f'the file from {url} has MD5 {digest} instead of {md5} '
            'and was removed; try again, or get the archive '
            'elsewhere and name it with --source'
        )
    os.replace(part, path)


def _receive(url: str, part: str, progress: Progress, task: TaskID) -> None:
    start = osp.getsize(part) if osp.isfile(part) else 0
    request = Request(url, headers={'Range': f'bytes={start}-'})
    try:
        reply = urlopen(request, timeout=TIMEOUT)
    except HTTPError as e:
        if e.code == 416 and start:  # no byte after `start`: the file is complete
            return
        raise
    with reply:
        if reply.status != 206:  # the server does not support ranges and sends everything
            start = 0
        length = reply.headers.get('Content-Length')
        total = start + int(length) if length else None
        progress.update(task, completed=start, total=total)
        with open(part, 'ab' if start else 'wb') as f:
            for block in iter(lambda: reply.read(1 << 16), b''):
                f.write(block)
                progress.advance(task, len(block))
            # http.client does not distinguish a lost connection from the end
            if total and f.tell() < total:
                raise ConnectionError(f'the connection ended after {f.tell():,} of {total:,} bytes')


def unpack(archive: str, target: str) -> None:
    """Unpack a zip or tar archive (compressed or not).

    Only plain files inside ``target`` are written, with default permissions.
    (The filter of ``tarfile`` for this is missing in older patch releases of
    Python.)

    Args:
        archive: Path of the archive.
        target: Folder to unpack into.

    Raises:
        ValueError: If the file is damaged, truncated, not an archive, or holds
            links or paths outside of ``target``.
    """
    target = osp.abspath(target)
    folders = set()
    with (
        _progress() as progress,
        progress.open(archive, 'rb', description=osp.basename(archive)) as file,
    ):
        files = _zip_files if file.read(2) == b'PK' else _tar_files
        file.seek(0)
        try:
            for name, content in files(file):
                path = osp.normpath(osp.join(target, name))
                if content is None or not path.startswith(target + os.sep):
                    raise ValueError(
                        f"unsafe archive '{archive}': '{name}' is a link or escapes the "
                        'target folder'
                    )
                if osp.dirname(path) not in folders:
                    os.makedirs(osp.dirname(path), exist_ok=True)
                    folders.add(osp.dirname(path))
                with content, open(path, 'wb') as f:
                    shutil.copyfileobj(content, f)
            file.seek(0, os.SEEK_END)  # completes the bar: a zip ends with its index
        except _DAMAGED as e:
            reason = (str(e) or type(e).__name__).splitlines()[0].rstrip(':')
            raise ValueError(
                f"'{archive}' is damaged, cut short or not a zip or "
                f'tar archive ({reason}); get it again'
            ) from e


def _zip_files(file: BinaryIO) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield info.filename, archive.open(info)


def _tar_files(file: BinaryIO) -> Iterator[tuple[str, Optional[IO[bytes]]]]:
    with tarfile.open(fileobj=file) as archive:
        for member in archive:
            if not member.isdir():
                is_file = member.isreg()
                yield member.name, (archive.extractfile(member) if is_file else None)


def copy_folder(folder: str, target: str) -> None:
    """Copy a folder with a progress bar.

    Args:
        folder: Folder to copy.
        target: Folder that receives the copy, under the same name.
    """
    folder = osp.abspath(folder)
    total = sum(
        osp.getsize(osp.join(path, name)) for path, _, names in os.walk(folder) for name in names
    )
    with _progress() as progress:
        task = progress.add_task(osp.basename(folder), total=total)

        def copy(source: str, path: str) -> None:
            shutil.copyfile(source, path)
            progress.advance(task, osp.getsize(path))

        shutil.copytree(
            folder, osp.join(target, osp.basename(folder)), copy_function=copy, dirs_exist_ok=True
        )
