"""Keep two processes, and two experiments, from writing into the same folder."""

import fcntl
import itertools
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO, Union

_NAME = '.lock'


@contextmanager
def lock_folder(folder: Union[str, Path], what: str = 'run') -> Iterator[None]:
    """Lock a folder for this process, which the error message calls a ``what``.

    The operating system releases the lock when the process ends, even if it is killed. The file
    ``.lock`` names the process that holds the lock. If the folder does not exist, it is created,
    and removed again if it is still empty at the end.

    Raises:
        ValueError: If another process has locked the folder.
    """
    folder = Path(folder)
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with _open_locked(folder, what) as file:
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}')
        file.flush()
        try:
            yield
        finally:
            (folder / _NAME).unlink(missing_ok=True)
            with suppress(OSError):  # a folder with files
                for path in created:
                    path.rmdir()


def set_aside(folder: Path) -> Path:
    """Rename the folder of another experiment by appending ``.1``, ``.2``, ...

    Raises:
        ValueError: If a process has locked the folder.
    """
    with _open_locked(folder, 'run'):
        renamed = folder.rename(free_name(folder))
        (renamed / _NAME).unlink()
    return renamed


def free_name(folder: Path) -> Path:
    """The first of ``folder.1``, ``folder.2``, ... that does not exist."""
    names = (folder.with_name(f'{folder.name}.{i}') for i in itertools.count(1))
    return next(name for name in names if not name.exists())


def _open_locked(folder: Path, what: str) -> TextIO:
    while True:
        file = open(folder / _NAME, 'a+')
        try:
            # not flock: data workers inherit its locks, and may outlive a killed run
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            holder = file.read().strip() or 'unknown process'
            file.close()
            raise ValueError(
                f"another {what} is writing into '{folder}' ({holder}); wait for it, stop it, or "
                'choose another folder'
            ) from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(folder / _NAME)):
                return file
        file.close()  # the process that held the lock has just removed this file
