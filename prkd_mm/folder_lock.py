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
    """Hold a folder for this process.

    The lock is the system's: it ends with the process, however that ends, so
    that a killed run leaves none behind. The file ``.lock`` only says who holds
    it.

    Args:
        folder (str | Path): The folder; made if it does not exist.
        what (str): What writes into it, for the error.

    Raises:
        ValueError: If another process holds the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / _NAME, 'a+') as file:
        try:
            # not flock: data workers would inherit that, and outlive a killed run
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
