"""Leave no files behind when a run fails before its first iteration."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Optional, Union

from mmengine.runner import Runner

from .files import write_bytes
from .folder_lock import set_aside


@contextmanager
def restored_after_failed_start(
    folder: Union[str, Path], has_started: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Restore a work dir, which exists, if the run fails before it has computed anything.

    New files and folders are removed. Configs directly in ``folder``, which MMEngine overwrites,
    get their old content back. Nothing changes if ``has_started()`` is true.
    """
    entries = set(Path(folder).iterdir())
    configs = {path: path.read_bytes() for path in Path(folder).glob('*.py')}
    try:
        yield
    except BaseException:
        if not has_started():
            for path in set(Path(folder).iterdir()) - entries:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            for path, content in configs.items():
                if path.read_bytes() != content:
                    write_bytes(path, content)
        raise


def has_earlier_run(folder: Path) -> bool:
    """Whether a work dir has the checkpoints of a run."""
    return (folder / 'last_checkpoint').is_file()


@contextmanager
def earlier_run_set_aside(
    folder: Union[str, Path], has_started: Callable[[], bool] = lambda: False
) -> Iterator[Optional[Path]]:
    """Rename a work dir with the checkpoints of an earlier run, before a new run writes into it.

    Yields the new name, or None without such checkpoints. The folder gets its name back if the new
    run fails before ``has_started()`` is true.

    Raises:
        ValueError: If another process is writing into the folder.
    """
    folder = Path(folder)
    if not has_earlier_run(folder):
        yield None
        return
    renamed = set_aside(folder)
    try:
        yield renamed
    except BaseException:
        if not has_started():
            renamed.rename(folder)
        raise


def has_trained(runner: Optional[Runner], first: int = 0) -> bool:
    """Whether a runner, None if it was not built, has trained beyond the iteration ``first``."""
    # `runner.iter` would build the loop, which may be what failed
    return getattr(getattr(runner, '_train_loop', None), 'iter', 0) > first
