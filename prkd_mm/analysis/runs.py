"""Which trained students to analyze, and where their checkpoints are."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Union

from mmengine.config import Config

from ..checkpoints import resolve
from ..config import METHODS, load_config, seed_suffix

_KEEP = '--cfg-options default_hooks.checkpoint.max_keep_ckpts=10'


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

    def tail(self, at_least: int = 2, last: Optional[int] = None) -> dict[str, str]:
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
            last = last or max(at_least, (average or {}).get('num_epochs', 10))
            kept = tail_checkpoints(self.cfg.work_dir, at_least, last)
            return {f'epoch {n}': str(path) for n, path in kept.items()}
        if len(self.checkpoints) < at_least:
            raise FileNotFoundError(
                f'this needs {at_least} checkpoints and --checkpoints names {len(self.checkpoints)}'
            )
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

    def all_weights(self, which: str = 'latest') -> list[str]:
        """The checkpoints of all seeds, as :meth:`weights`."""
        return [self.weights(which), *(self._weights_in(folder, which) for folder in self.repeats)]

    def _weights_in(self, folder: str, which: str) -> str:
        try:
            return resolve(folder if which == 'latest' else os.path.join(folder, 'student_avg.pth'))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'{error}: {self.title} has to be trained first '
                f'(tools/train.py {self.cfg.filename} --method ...), or its '
                'weights named with --checkpoints'
            ) from error


def _labels(paths: Sequence[str]) -> list[str]:
    names = [Path(path).stem for path in paths]
    if len(set(names)) < len(names):
        names = [f'{Path(path).parent.name}/{name}' for path, name in zip(paths, names)]
    return names if len(set(names)) == len(names) else list(paths)


def find_runs(
    config: str,
    methods: Sequence[str] = (),
    checkpoints: Sequence[str] = (),
    options: Optional[dict] = None,
    work_dirs: Sequence[str] = (),
    trainings: int = 1,
) -> list[Run]:
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
        raise ValueError(
            f'--checkpoints are of one run, and --methods names '
            f'{len(methods)}; leave one of the two out'
        )
    if work_dirs and len(work_dirs) != len(methods):
        raise ValueError(f'{len(work_dirs)} --work-dirs for {len(methods)} methods; give one each')
    if trainings < 1:
        raise ValueError(f'--trainings must be at least 1, got {trainings}')
    if checkpoints and trainings > 1:
        raise ValueError(
            f'--checkpoints are of one run, and --trainings says '
            f'{trainings}; leave one of the two out'
        )
    runs = []
    for method, work_dir in zip(methods, work_dirs or [None] * len(methods)):
        cfg = load_config(config, method, options, work_dir)
        name = METHODS.get(cfg.get('method'), Path(config).stem)
        runs.append(
            Run(
                name.replace('student, ', ''),
                cfg,
                [resolve(path) for path in checkpoints],
                [cfg.work_dir + seed_suffix(k) for k in range(1, trainings)],
            )
        )
    return _told_apart(runs)


def _told_apart(runs: list[Run]) -> list[Run]:
    """With the work dir in the titles that several have."""
    titles = [run.title for run in runs]
    found = [
        run
        if titles.count(run.title) == 1
        else run._replace(title=f'{run.title} ({Path(run.cfg.work_dir).name})')
        for run in runs
    ]
    if len({run.title for run in found}) < len(runs):
        raise ValueError(f'{titles}: methods that occur twice need --work-dirs of different names')
    return found


def tail_checkpoints(
    work_dir: Union[str, Path], at_least: int = 2, last: Optional[int] = None
) -> dict[int, Path]:
    """The ``epoch_N.pth`` that a run has kept, by N, ascending.

    Args:
        work_dir (str | Path): Of the run.
        at_least (int): Defaults to 2.
        last (int, optional): Only those of the last so many epochs. Defaults
            to None: all.

    Raises:
        FileNotFoundError: Fewer than ``at_least``.
    """
    found = {
        int(match[1]): path
        for path in Path(work_dir).glob('epoch_*.pth')
        if (match := re.fullmatch(r'epoch_(\d+)\.pth', path.name))
    }
    if last and found:
        first = max(found) - last
        found = {n: path for n, path in found.items() if n > first}
    if len(found) < at_least:
        of = f' of its last {last} epochs' if last else ''
        raise FileNotFoundError(
            f'{work_dir} has {len(found)} of the checkpoints epoch_N.pth that '
            f'a run leaves{of}, and this needs {at_least}. By default a run '
            f'keeps its last two: train with {_KEEP} to keep the tail, '
            'or name files with --checkpoints'
        )
    return dict(sorted(found.items()))
