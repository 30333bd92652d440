"""Keep two processes from writing into the same folder."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Union

_NAME = '.lock'


@contextmanager
def lock_folder(folder: Union[str, Path], what: str = 'run') -> Iterator[None]:
    """Lock a folder for this process.

    The operating system releases the lock when the process ends, even if it
    is killed. The file ``.lock`` names the process that holds the lock.

    Args:
        folder (str | Path): The folder; created if it does not exist.
        what (str): Kind of process, for the error message.

    Raises:
        ValueError: If another process has locked the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / _NAME, 'a+') as file:
        try:
            # not flock: data workers inherit its locks, and may outlive a killed run
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            holder = file.read().strip() or 'unknown process'
            raise ValueError(
                f"another {what} is writing into '{folder}' ({holder}); wait for it, stop it, or "
                'choose another folder'
            ) from None
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}')
        file.flush()
        yield
