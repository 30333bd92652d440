"""Leave no files behind when a run fails before its first iteration."""

import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Optional, Union

from mmengine.runner import Runner

from ..checkpoints import checkpoint_name
from ..files import write_bytes
from .folder_lock import free_name

# Files and folders of a run in its work dir, without its checkpoints; others may be anybody's
_OF_A_RUN = re.compile(
    r'best_.*\.pth|student_avg\.pth|last_checkpoint|schedule\.png|job\.json|\d{8}_\d{6}|export|test'
)
# What a run writes to its work dir before its first iteration; stored logits are worth keeping
_OF_A_START = re.compile(r'\d{8}_\d{6}|schedule\.png|.*\.py')


def has_earlier_run(folder: Union[str, Path]) -> bool:
    """Whether a work dir has the checkpoints of a run."""
    return Path(folder, 'last_checkpoint').is_file()


def _is_of_a_run(name: str, template: Optional[str]) -> bool:
    # an earlier run may have used MMEngine's default names
    patterns = _OF_A_RUN, checkpoint_name(), checkpoint_name(template)
    return any(pattern.fullmatch(name) for pattern in patterns)


def is_of_earlier_run(
    path: Union[str, Path], folder: Union[str, Path], template: Optional[str] = None
) -> bool:
    """Whether a new run in a work dir moves a file or folder, or the whole work dir is meant.

    ``template`` is the ``filename_tmpl`` of the checkpoint hook, None for its default.
    """
    path, folder = Path(path), Path(folder).resolve()
    for place in (path.resolve(), path.parent.resolve() / path.name):  # of a link, and of its file
        if place.is_relative_to(folder):
            first = place.relative_to(folder).parts[:1]  # empty for the work dir itself
            if all(_is_of_a_run(name, template) for name in first):
                return True
    return False


@contextmanager
def restored_after_failed_start(
    folder: Union[str, Path],
    has_started: Callable[[], bool] = lambda: False,
    template: Optional[str] = None,
) -> Iterator[Callable[[], Path]]:
    """Restore a work dir, which exists, if the run fails before it has computed anything.

    New logs, figures and configs of a run are removed; other new files may be anybody's. Configs
    directly in ``folder``, which MMEngine overwrites, get their old content back. Nothing changes
    if ``has_started()`` is true.

    Yields a function that moves the files of an earlier run, which the new one would mix with its
    own, into a new folder ``<folder>.1``, and returns this folder. They are also restored. Its
    checkpoints may have names of ``template``, see :func:`is_of_earlier_run`.
    """
    folder = Path(folder).resolve()
    entries = set(folder.iterdir())
    configs = {path: path.read_bytes() for path in folder.glob('*.py')}
    moved: list[Path] = []

    def set_earlier_run_aside() -> Path:
        aside = free_name(folder)
        aside.mkdir()
        moved.append(aside)
        for path in entries:
            if _is_of_a_run(path.name, template):
                path.rename(aside / path.name)
        for path, content in configs.items():
            write_bytes(aside / path.name, content)
        return aside

    try:
        yield set_earlier_run_aside
    except BaseException as error:
        if has_started():
            raise
        with _uninterrupted():
            _restore(folder, entries, configs, moved)
        if isinstance(error, KeyboardInterrupt):
            raise SystemExit('interrupted before anything was computed; nothing changed') from None
        raise


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C, and the SIGTERM that a launcher sends after the failure of another process."""
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _restore(
    folder: Path, entries: set[Path], configs: dict[Path, bytes], moved: list[Path]
) -> None:
    for path in set(folder.iterdir()) - entries:
        if _OF_A_START.fullmatch(path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path, content in configs.items():
        if path.read_bytes() != content:
            write_bytes(path, content)
    for aside in moved:
        for path in aside.iterdir():
            path.replace(folder / path.name)
        aside.rmdir()


def has_trained(runner: Optional[Runner], first: int = 0) -> bool:
    """Whether a runner, None if it was not built, has trained beyond the iteration ``first``.

    A finished run that resumes has: it validates, and writes its average.
    """
    # `runner.iter` would build the loop, which may be what failed
    loop = getattr(runner, '_train_loop', None)
    done = getattr(loop, 'iter', 0)
    return done > first or (done > 0 and done >= getattr(loop, 'max_iters', float('inf')))
