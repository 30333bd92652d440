"""Download an archive or copy a folder, for ``prepare_data.py``."""

import os
import shutil
import socket
import time
from http.client import HTTPException
from os import path as osp
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from mmpretrain.datasets.utils import calculate_md5
from rich.progress import Progress, TaskID

from .unpack import expect_space, progress_bar

ATTEMPTS = 5
TIMEOUT = 30  # seconds without a byte

_LOST = (URLError, ConnectionError, HTTPException, socket.timeout)


def download(url: str, path: str, md5: str) -> None:
    """Download a file and verify it, resuming an interrupted download.

    Until it is verified, the file is named ``path + '.part'``.

    Raises:
        ConnectionError: If the download is incomplete after several attempts. The received part is
            kept.
        ValueError: If the MD5 differs. The file is removed.
        OSError: If the disk has too little free space.
    """
    part = f'{path}.part'
    with progress_bar() as progress:
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
            f'cannot download {url}: {error}{kept}; or get the archive elsewhere and pass it '
            'with --source'
        )
    digest = calculate_md5(part)
    if digest != md5:
        os.remove(part)
        raise ValueError(
            f'the file from {url} has MD5 {digest} instead of {md5} and was removed; try again, or '
            'get the archive elsewhere and pass it with --source'
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
        length = int(reply.headers.get('Content-Length', 0))
        total = start + length if length else None
        progress.update(task, completed=start, total=total)
        expect_space(osp.dirname(osp.abspath(part)), length, f'downloading {url}')
        with open(part, 'ab' if start else 'wb') as f:
            for block in iter(lambda: reply.read(1 << 16), b''):
                f.write(block)
                progress.advance(task, len(block))
            # http.client does not distinguish a lost connection from the end
            if total and f.tell() < total:
                raise ConnectionError(f'the connection ended after {f.tell():,} of {total:,} bytes')


def copy_folder(folder: str, target: str) -> None:
    """Copy a folder into another one, under the same name."""
    folder = osp.abspath(folder)
    total = sum(
        osp.getsize(osp.join(path, name)) for path, _, names in os.walk(folder) for name in names
    )
    expect_space(target, total, f"copying '{folder}'")
    print(f"Copying '{folder}'", flush=True)
    copy = osp.join(target, osp.basename(folder))
    shutil.copytree(folder, copy, copy_function=shutil.copyfile, dirs_exist_ok=True)
