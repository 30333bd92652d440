"""Which runs to analyse, and how progress and numbers reach the user."""
import contextlib
import os
from pathlib import Path
from typing import (Callable, Dict, Iterable, Iterator, List, NamedTuple,
                    Optional, Sequence)

import torch
from mmengine.config import Config
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ..checkpoints import resolve
from ..config import METHODS, load_config, seed_suffix
from .results import save_csv, save_figure, save_json
from .trained import tail_checkpoints


class Run(NamedTuple):
    """A trained student: a config, and where its weights are.

    Attributes:
        title (str): What the figures call it.
        cfg (Config): Its config.
        checkpoints (list[str]): The files to take, in place of the work
            dir's. Defaults to (): those of the work dir.
        repeats (list[str]): The work dirs of the same with other seeds.
            Defaults to (): none.
    """
    title: str
    cfg: Config
    checkpoints: Sequence[str] = ()
    repeats: Sequence[str] = ()

    def tail(self, at_least: int = 2,
             last: Optional[int] = None) -> Dict[str, str]:
        """The checkpoints of the last epochs by label, ascending.

        Given ``checkpoints`` are the tail as they are.

        Args:
            at_least (int): Defaults to 2.
            last (int, optional): Of so many epochs. Defaults to None: as many
                as the run averages, or 10.

        Raises:
            FileNotFoundError: Fewer than ``at_least``.
            ValueError: ``last`` is.
        """
        if last is not None and last < at_least:
            raise ValueError(f'--tail must be at least {at_least}, got {last}')
        if not self.checkpoints:
            average = self.cfg.get('default_hooks', {}).get('tail_average')
            last = last or max(at_least,
                               (average or {}).get('num_epochs', 10))
            kept = tail_checkpoints(self.cfg.work_dir, at_least, last)
            return {f'epoch {n}': str(path) for n, path in kept.items()}
        if len(self.checkpoints) < at_least:
            raise FileNotFoundError(
                f'this needs {at_least} checkpoints and --checkpoints names '
                f'{len(self.checkpoints)}')
        return dict(zip(_labels(self.checkpoints), self.checkpoints))

    def weights(self, which: str = 'latest') -> str:
        """The checkpoint to look at.

        Args:
            which (str): 'latest': the raw student; 'average': the mean of the
                tail, ``student_avg.pth``. Of given ``checkpoints`` the last
                one is taken. Defaults to 'latest'.

        Raises:
            FileNotFoundError: It is not there.
        """
        if self.checkpoints:
            return resolve(self.checkpoints[-1])
        return self._weights_in(self.cfg.work_dir, which)

    def all_weights(self, which: str = 'latest') -> List[str]:
        """The checkpoints of all seeds, as :meth:`weights`."""
        return [self.weights(which), *(
            self._weights_in(folder, which) for folder in self.repeats)]

    def _weights_in(self, folder: str, which: str) -> str:
        try:
            return resolve(folder if which == 'latest' else
                           os.path.join(folder, 'student_avg.pth'))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'{error}: {self.title} has to be trained first '
                f'(tools/train.py {self.cfg.filename} --method ...), or its '
                'weights named with --checkpoints') from error


def _labels(paths: Sequence[str]) -> List[str]:
    names = [Path(path).stem for path in paths]
    if len(set(names)) < len(names):
        names = [f'{Path(path).parent.name}/{name}'
                 for path, name in zip(paths, names)]
    return names if len(set(names)) == len(names) else list(paths)


def find_runs(config: str,
              methods: Sequence[str] = (),
              checkpoints: Sequence[str] = (),
              options: Optional[dict] = None,
              work_dirs: Sequence[str] = (),
              trainings: int = 1) -> List[Run]:
    """The runs of a config under several methods.

    Args:
        config (str): The config file.
        methods (Sequence[str]): Defaults to (): the config's own.
        checkpoints (Sequence[str]): Files of the one run, in place of those
            of its work dir. Defaults to ().
        options (dict, optional): Overrides, as of ``load_config``.
        work_dirs (Sequence[str]): One a method. Defaults to (): the methods'
            own.
        trainings (int): Of each, with the seeds 0, 1, ... in work dirs as
            ``tools/reproduce.py`` names them. Defaults to 1.

    Raises:
        ValueError: Checkpoints for several methods or trainings, a number of
            work dirs that is not that of the methods, no training, or one run
            twice.
        FileNotFoundError: No such config, method or checkpoint.
    """
    methods = list(methods) or [None]
    work_dirs = [folder.rstrip('/') for folder in work_dirs]
    if checkpoints and len(methods) > 1:
        raise ValueError(f'--checkpoints are of one run, and --methods names '
                         f'{len(methods)}; leave one of the two out')
    if work_dirs and len(work_dirs) != len(methods):
        raise ValueError(f'{len(work_dirs)} --work-dirs for {len(methods)} '
                         'methods; give one each')
    if trainings < 1:
        raise ValueError(f'--trainings must be at least 1, got {trainings}')
    if checkpoints and trainings > 1:
        raise ValueError(f'--checkpoints are of one run, and --trainings says '
                         f'{trainings}; leave one of the two out')
    runs = []
    for method, work_dir in zip(methods, work_dirs or [None] * len(methods)):
        cfg = load_config(config, method, options, work_dir)
        name = METHODS.get(cfg.get('method'), Path(config).stem)
        runs.append(
            Run(name.replace('student, ', ''), cfg,
                [resolve(path) for path in checkpoints],
                [cfg.work_dir + seed_suffix(k) for k in range(1, trainings)]))
    return _told_apart(runs)


def _told_apart(runs: List[Run]) -> List[Run]:
    """With the work dir in the titles that several have."""
    titles = [run.title for run in runs]
    found = [run if titles.count(run.title) == 1 else run._replace(
        title=f'{run.title} ({Path(run.cfg.work_dir).name})') for run in runs]
    if len({run.title for run in found}) < len(runs):
        raise ValueError(f'{titles}: methods that occur twice need '
                         '--work-dirs of different names')
    return found


class Report:
    """Shows progress and numbers, and writes what an analysis found.

    Args:
        folder (str | Path): Where to.
        name (str): How the files' names begin.
        console (Console, optional): Defaults to None: the standard output.

    Attributes:
        pictures (list[Path]): The PNGs written so far.
    """

    def __init__(self, folder, name: str,
                 console: Optional[Console] = None) -> None:
        self.stem = Path(folder) / name
        self.console = console or Console()
        self.pictures: List[Path] = []
        self._progress: Optional[Progress] = None

    @contextlib.contextmanager
    def progress(self) -> Iterator[None]:
        """Show bars, inside; without a screen a line for each."""
        with Progress(console=self.console, transient=True) as self._progress:
            yield
        self._progress = None

    def track(self, what: str) -> Callable[[Iterable], Iterable]:
        """A function that passes a sequence on and shows how far it got."""
        if not self.console.is_terminal:
            self.console.print(f'{what} ...', highlight=False)
        if self._progress is None:
            return iter
        return lambda items: self._progress.track(items, description=what)

    def table(self, title: str, rows: List[dict],
              headings: Dict[str, str]) -> None:
        """Print the columns that have a heading, numbers in three digits."""
        table = Table(title=title, padding=(0, 0))
        for key, heading in headings.items():
            text = isinstance(rows[0][key], str)
            table.add_column(heading, justify='left' if text else 'right')
        for row in rows:
            table.add_row(*(_shown(row[key]) for key in headings))
        self.console.print(table)

    def save(self, numbers: dict, tables: Dict[str, List[dict]],
             figures: Dict[str, object]) -> None:
        """Write ``<name>.json``, and ``<name><key>.csv``, ``.png``, ``.svg``.
        """
        paths = [save_json(numbers, self.stem)]
        for key, rows in tables.items():
            paths.append(save_csv(rows, Path(f'{self.stem}{key}')))
        for key, figure in figures.items():
            paths += save_figure(figure, Path(f'{self.stem}{key}'))
        self.pictures += [path for path in paths if path.suffix == '.png']
        for path in paths:
            self.console.print(str(path), highlight=False, soft_wrap=True)


def _shown(x) -> str:
    if isinstance(x, dict):  # a mean and its error
        return f'{x["mean"]:.3g} ± {x["error"]:.3g}'
    if x is None:
        return '-'
    return f'{x:.3g}' if isinstance(x, float) else str(x)


def choose_device(name: Optional[str] = None) -> torch.device:
    """A device by name, or the GPU if there is one; exact float32 on it."""
    device = torch.device(
        name or ('cuda' if torch.cuda.is_available() else 'cpu'))
    torch.backends.cudnn.allow_tf32 = False  # second derivatives need digits
    torch.backends.cudnn.deterministic = True
    return device
