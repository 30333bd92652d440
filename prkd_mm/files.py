"""Write files so that a crash or a full disk leaves the old file intact."""

import contextlib
import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any, BinaryIO, Union
from uuid import uuid4

_ABANDONED_AFTER = 3600  # seconds; an older temporary file was left by a killed run


@contextmanager
def atomic_file(path: Union[str, Path]) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only when it is complete and on disk.

    The content goes to a temporary file with a unique name next to ``path``. This file is synced
    and then replaces ``path``; the folder, which must exist, is synced, too. Temporary files that
    killed processes left for this path are removed.

    Raises:
        OSError: If the file cannot be written. The message says so if the disk is full.
    """
    path = Path(path)
    _remove_abandoned(path)
    partial = path.with_name(f'.{path.name}.{uuid4().hex}.partial')
    try:
        with open(partial, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_file(path.parent)  # otherwise a power failure may undo the renaming
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            f"the disk is full: cannot write '{path}'; free some space in '{path.parent}' and "
            'run the same command again (a training with --resume)'
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Union[str, Path], content: Union[bytes, memoryview]) -> None:
    """Write a binary file atomically; see :func:`atomic_file`."""
    with atomic_file(path) as file:
        file.write(content)


def write_text(path: Union[str, Path], text: str) -> None:
    """Write a UTF-8 text file atomically; see :func:`atomic_file`."""
    write_bytes(path, text.encode())


def write_json(path: Union[str, Path], value: Any, indent: Union[int, None] = None) -> None:
    """Write a JSON file atomically; see :func:`atomic_file`."""
    write_text(path, json.dumps(value, indent=indent))


def _remove_abandoned(path: Path) -> None:
    for partial in path.parent.glob(f'.{escape(path.name)}.*.partial'):
        with contextlib.suppress(FileNotFoundError):  # another process may remove it, too
            if time.time() - partial.stat().st_mtime > _ABANDONED_AFTER:
                partial.unlink()


def sync_file(path: Union[str, Path]) -> None:
    """Flush a file (or the names in a folder) to disk."""
    with contextlib.suppress(OSError):  # not every file system can sync
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
