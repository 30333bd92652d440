"""A search, from end to end: train, choose, report."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from mmengine.config import Config, DictAction
from rich.console import Console
from rich.progress import Progress

from ...analysis.device import choose_device
from ...config import METHODS, load_config
from ...teachers.fill_store import default_folder, store_teacher
from ..comparison_report import protocol
from ..job import AVERAGED_TOP1, TOP1, Job, set_aside
from ..plan import training
from ..pool import run_all
from .held_out_config import write_held_out
from .tail_choice import tail_choices
from .trials import Trial, finalists, settings, winner
from .tuning_report import average_over_seeds, write_search

_OF_DATA = ('train_dataloader.dataset', 'val_dataloader')


def _split(options: Sequence[str]) -> tuple[dict, list[str]]:
    """Overrides of the data, which is cut in two afterwards, and others."""
    of_data = [option for option in options if option.startswith(_OF_DATA)]
    parser = argparse.ArgumentParser()
    parser.add_argument('options', nargs='*', action=DictAction)
    return parser.parse_args(of_data).options or {}, [
        option for option in options if option not in of_data
    ]


class Tuning:
    """Trials of several methods, each with the same budget.

    Args:
        config (str): Of a pair.
        methods (Sequence[str]): Of :data:`~prkd_mm.experiments.METHODS`.
        out (Path): Where the held-out configs and the report go.
        train_py (str): Path of ``tools/train.py``.
        console (Console): Where progress is shown.
        trials (int): Settings of each method. Defaults to 8.
        finalists (int): How many of them get all seeds, besides the config's
            own. Defaults to 2.
        seeds (int): Runs of a finalist. Defaults to 3.
        held_out (int): Every that many-th image is. Defaults to 5.
        tail (int): The most last epochs that are averaged; every run keeps
            their checkpoints. Defaults to 15.
        jobs (int): Runs side by side. Defaults to 1.
        views (int, optional): Store the teacher's logits of that many views
            and train from them. Defaults to None: the live teacher.
        cfg_options (Sequence[str]): For the students. Defaults to none.
        teacher_options (Sequence[str]): For the teacher. Defaults to none.
        amp (bool): Mixed precision. Defaults to False.

    Raises:
        ValueError: The config has no methods, no validated tail average, or
            not enough epochs; ``views`` of data that are not packed; or a
            teacher from elsewhere in place of the one that is trained.
    """

    def __init__(
        self,
        config: str,
        methods: Sequence[str],
        out: Path,
        train_py: str,
        console: Console,
        trials: int = 8,
        finalists: int = 2,
        seeds: int = 3,
        held_out: int = 5,
        tail: int = 15,
        jobs: int = 1,
        views: Optional[int] = None,
        cfg_options: Sequence[str] = (),
        teacher_options: Sequence[str] = (),
        amp: bool = False,
    ) -> None:
        self.out, self.train_py, self.console = out, train_py, console
        self.num_finalists, self.seeds, self.jobs = finalists, seeds, jobs
        self.views, self.amp, self.every = views, amp, held_out
        data, others = _split(cfg_options)
        teachers_data, self.teacher_options = _split(teacher_options)
        path, self.teacher = write_held_out(config, out, held_out, data, teachers_data)
        self.config = str(path)
        self.options = [f'default_hooks.checkpoint.max_keep_ckpts={tail}', *others]
        self.found, self.finals = {}, {}
        for method in methods:
            own = training('', self.config, method, self.options).cfg
            self.found[method] = settings(own, method, trials)
        self._check(self.jobs_of(self.found[methods[0]][0], 1)[0].cfg, tail)

    def _check(self, cfg: Config, tail: int) -> None:
        """Refuse before any training what would fail after it."""
        average = cfg.default_hooks.get('tail_average')
        if not average or not average.get('evaluate', True):
            raise ValueError(
                'the trials are compared by their tail averages: '
                'the config needs a default_hooks.tail_average '
                'that is evaluated'
            )
        saving = cfg.default_hooks.get('checkpoint') or {}
        if not saving.get('by_epoch', True) or saving.get('interval') != 1:
            raise ValueError(
                'what is averaged is tried on the checkpoints of the last '
                'epochs: the config needs default_hooks.checkpoint.interval=1 '
                f'epoch, got {dict(saving)}'
            )
        epochs = cfg.train_cfg.get('max_epochs') or 0
        if not 2 <= tail <= epochs:
            raise ValueError(f'--tail must be from 2 to the epochs of a run, {epochs}; got {tail}')
        if self.views and cfg.train_dataloader.dataset.type not in ('PackedImages', 'ImageViews'):
            raise ValueError(
                '--views needs training images in PackedImages or ImageViews, '
                f'got {cfg.train_dataloader.dataset.type!r}; '
                'leave it out'
            )
        expected = load_config(self.config).model.get('teacher_ckpt')
        if self.teacher and cfg.model.get('teacher_ckpt') != expected:
            raise ValueError(
                'a search trains its own teacher, which must not have seen '
                f'the held-out images; leave out model.teacher_ckpt='
                f'{cfg.model.get("teacher_ckpt")}'
            )

    def run(self) -> None:
        """Train what is missing: the teacher, the trials, the finalists."""
        if self.teacher:
            teacher = training(
                'teacher', str(self.teacher), None, self.teacher_options, amp=self.amp
            )
            run_all([teacher], self.train_py, self.console)
        else:
            self.console.print(f'Teacher: {self.about_the_teacher()}', highlight=False)
        if self.views:
            self._store()
        self._run([trial for found in self.found.values() for trial in found], 1)
        self.finals = {
            method: finalists(found, self.num_finalists) for method, found in self.found.items()
        }
        self._run([trial for final in self.finals.values() for trial in final], self.seeds)

    def _store(self) -> None:
        first = next(iter(self.found.values()))[0]
        cfg = self.jobs_of(first, 1)[0].cfg
        folder = default_folder(cfg, self.views)
        try:
            store_teacher(cfg, folder, self.views)
        except ValueError as error:
            if not folder.exists():
                raise
            self.console.print(f'{error}\nThey are kept as {set_aside(folder)}', highlight=False)
            store_teacher(cfg, folder, self.views)
        self.options.append(f'model.teacher_logits={folder}')

    def about_the_teacher(self) -> str:
        """Whether it has seen the held-out images."""
        if self.teacher:
            return 'trained without the held-out images'
        return 'as given (the config has no teacher_config); it may have seen the held-out images'

    def jobs_of(self, trial: Trial, seeds: int) -> list[Job]:
        """The runs of a trial."""
        return [
            training(
                f'{METHODS[trial.method]}, trial {trial.number}',
                self.config,
                trial.method,
                [*self.options, *trial.options],
                seed,
                self.amp,
                f'_trial{trial.number}',
            )
            for seed in range(seeds)
        ]

    def _run(self, trials: Sequence[Trial], seeds: int) -> None:
        runs = [(trial, self.jobs_of(trial, seeds)) for trial in trials]
        # by seed, so that an early end leaves whole rounds
        jobs = [job for round_ in zip(*(jobs for _, jobs in runs)) for job in round_]
        run_all(jobs, self.train_py, self.console, self.jobs)
        for trial, jobs in runs:
            for name, metric in (('last', TOP1), ('averaged', AVERAGED_TOP1)):
                curves = [job.curve(metric) for job in jobs]
                setattr(trial, name, [curve[max(curve)] for curve in curves])

    def write(self, command: str) -> None:
        """Try I and batch norm on the winners' checkpoints; write it all.

        Args:
            command (str): The command that makes the report again.
        """
        tails, runs = {}, []
        with Progress(console=self.console, transient=True) as progress:
            for method, found in self.found.items():
                watched = progress.track(
                    self.jobs_of(winner(self.finals[method]), self.seeds),
                    description=f'{METHODS[method]}: the tail',
                )
                tails[method] = average_over_seeds(
                    [tail_choices(job.cfg, choose_device()) for job in watched]
                )
                for trial in found:
                    runs += self.jobs_of(trial, len(trial.averaged))
        number = {len(found) for found in self.found.values()}.pop()
        others = min(self.num_finalists, number - 1)
        hours = sum(job.record()['seconds'] for job in runs) / 3600
        self.console.print(
            write_search(
                self.out,
                self.found,
                self.finals,
                tails,
                dict(
                    protocol(runs, command),
                    held_out=f'every {self.every}th training image of a class',
                    teacher=self.about_the_teacher(),
                    budget=f'{number} settings of each method, {others} and '
                    f"the config's own with {self.seeds} seeds: "
                    f'{len(runs)} runs of students, {hours:.1f} hours in '
                    'all',
                ),
            ),
            highlight=False,
            soft_wrap=True,
        )
