"""Find the trained students to analyze, and their checkpoints."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Union

from mmengine.config import Config

from ..checkpoints import AVERAGE, check_even_spacing, epoch_checkpoints, resolve
from ..cli import command_of
from ..config import load_config, seed_suffix
from ..methods import METHODS

_KEEP = '--cfg-options default_hooks.checkpoint.max_keep_ckpts=10'


class Run(NamedTuple):
    """A trained student: its config and the location of its weights."""

    title: str  # its name in the figures
    cfg: Config
    checkpoints: Sequence[str] = ()  # files to use instead of those in the work dir
    repeats: Mapping[int, str] = {}  # work dirs of the same training with other seeds, by seed

    def tail(self, at_least: int = 2, last: Optional[int] = None) -> dict[str, str]:
        """The run's ``checkpoints``, or else those of its last epochs, by label, ascending.

        ``last`` is the number of epochs; default: as many as the run averages, or 10.

        Raises:
            FileNotFoundError: If there are fewer than ``at_least``, or not evenly spaced ones.
            ValueError: If ``last`` is less than ``at_least``.
        """
        if last is not None and last < at_least:
            raise ValueError(f'--tail must be at least {at_least}, got {last}')
        if not self.checkpoints:
            average = self.cfg.get('default_hooks', {}).get('tail_average')
            last = last or max(at_least, (average or {}).get('num_epochs', 10))
            kept = tail_checkpoints(self.cfg.work_dir, at_least, last)
            check_even_spacing(
                self.cfg.work_dir, kept, 'to use those that are there, name them with --checkpoints'
            )
            return {f'epoch {n}': str(path) for n, path in kept.items()}
        if len(self.checkpoints) < at_least:
            raise FileNotFoundError(
                f'{at_least} checkpoints are needed, but --checkpoints has {len(self.checkpoints)}'
            )
        return dict(zip(_labels(self.checkpoints), self.checkpoints))

    def weights(self, which: str = 'latest') -> str:
        """The checkpoint to analyze: the last of ``checkpoints``, or the one in the work dir.

        ``which`` is 'latest' for the raw student, 'average' for ``student_avg.pth``.

        Raises:
            FileNotFoundError: If the checkpoint is missing.
        """
        if self.checkpoints:
            return resolve(self.checkpoints[-1])
        return self._weights_in(self.cfg.work_dir, which)

    def all_weights(self, which: str = 'latest') -> dict[int, str]:
        """The checkpoints of all seeds by seed, each as in :meth:`weights`; the first is 0."""
        others = {seed: self._weights_in(folder, which) for seed, folder in self.repeats.items()}
        return {0: self.weights(which), **others}

    def _weights_in(self, folder: str, which: str) -> str:
        try:
            return resolve(folder if which == 'latest' else os.path.join(folder, AVERAGE))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'{error}: {self.title} must be trained first '
                f'({command_of("train.py")} {self.cfg.filename} --method ...), or specify its '
                'weights with --checkpoints'
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
    """The runs of a config with several methods.

    Args:
        config, options: The config file, and overrides of it.
        methods: Names of methods; default: the method of the config.
        checkpoints: Files of a single run, instead of those in its work dir.
        work_dirs: One work dir per method; default: the default work dirs.
        trainings: Number of trainings per method, with the seeds 0, 1, ... in work dirs
            named as by ``tools/reproduce.py``.

    Raises:
        ValueError: If the options contradict each other, or a run occurs twice.
        FileNotFoundError: If a config, method or checkpoint is missing.
    """
    chosen: Sequence[Optional[str]] = methods or [None]
    folders: Sequence[Optional[str]] = [folder.rstrip('/') for folder in work_dirs]
    if work_dirs and len(work_dirs) != len(chosen):
        raise ValueError(
            f'{len(work_dirs)} --work-dirs for {len(chosen)} methods; specify one per method'
        )
    if trainings < 1:
        raise ValueError(f'--trainings must be at least 1, got {trainings}')
    for number, name in ((len(chosen), '--methods'), (trainings, '--trainings')):
        if checkpoints and number > 1:
            raise ValueError(
                f'--checkpoints belong to one run, but {name} selects {number}; '
                'remove one of the two options'
            )
    files = [resolve(path) for path in checkpoints]
    runs = []
    for method, folder in zip(chosen, folders or [None] * len(chosen)):
        cfg = load_config(config, method, options, folder)
        title = METHODS.get(cfg.get('method'), Path(config).stem)
        repeats = {seed: cfg.work_dir + seed_suffix(seed) for seed in range(1, trainings)}
        runs.append(Run(title, cfg, files, repeats))
    return _with_unique_titles(runs)


def _with_unique_titles(runs: list[Run]) -> list[Run]:
    """Append the work dir to titles that occur more than once."""
    titles = [run.title for run in runs]
    for i, run in enumerate(runs):
        if titles.count(run.title) > 1:
            runs[i] = run._replace(title=f'{run.title} ({Path(run.cfg.work_dir).name})')
    if len({run.title for run in runs}) < len(runs):
        raise ValueError(
            f'{titles}: a method that occurs twice needs --work-dirs with different names'
        )
    return runs


def tail_checkpoints(
    work_dir: Union[str, Path], at_least: int = 2, last: Optional[int] = None
) -> dict[int, Path]:
    """The checkpoints ``epoch_N.pth`` of the ``last`` epochs (or of all) that a run kept, by N.

    Raises:
        FileNotFoundError: If there are fewer than ``at_least``.
    """
    found = epoch_checkpoints(work_dir)
    if last and found:
        first = max(found) - last
        found = {n: path for n, path in found.items() if n > first}
    if len(found) < at_least:
        epochs = f' of its last {last} epochs' if last else ''
        raise FileNotFoundError(
            f'{work_dir} has {len(found)} of the checkpoints epoch_N.pth{epochs}, but '
            f'{at_least} are needed. By default a run keeps its last two: train with {_KEEP} '
            'to keep more, or specify files with --checkpoints'
        )
    return found
