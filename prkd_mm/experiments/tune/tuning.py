"""A search from end to end: train, choose, report."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from rich.console import Console
from rich.progress import Progress

from ...analysis.device import choose_device
from ...cli import ConfigOptions
from ...config import load_config
from ...methods import METHODS
from ...start.failed_start import restored_after_failed_start
from ...start.folder_lock import lock_folder
from ..comparison_report import protocol
from ..job import Job
from ..plan import training
from ..pool import Pool
from ..run_options import TuningOptions
from ..shared_store import begin_shared_store, default_views
from .held_out_config import write_held_out
from .tail_choice import tail_choices
from .trials import Trial, finalists, settings, winner
from .tuning_report import average_over_seeds, write_search

_DATA_KEYS = ('train_dataloader.dataset', 'val_dataloader')


def _split(options: Sequence[str]) -> tuple[dict, list[str]]:
    """Overrides of the data, which apply before images are held out, and all other overrides."""
    of_data = [option for option in options if option.startswith(_DATA_KEYS)]
    parser = argparse.ArgumentParser()
    parser.add_argument('options', nargs='*', action=ConfigOptions)
    others = [option for option in options if option not in of_data]
    return parser.parse_args(of_data).options or {}, others


def search(options: TuningOptions, train_py: str, console: Console, command: str) -> Path:
    """Search as the options of ``tools/tune.py`` say; returns the path of the report.

    Raises:
        ValueError: If another search uses the same folder, or as for :class:`Tuning`.
        TrainingFailed: If a training run fails.
    """
    folder = folder_of(options)
    with lock_folder(folder, 'search'):
        with restored_after_failed_start(folder):  # an error leaves no new configs
            tuning = Tuning(options, train_py, console)
        tuning.run()
        tuning.write(command)
    return folder / 'tuning.md'


def folder_of(options: TuningOptions) -> Path:
    """Output folder of a search."""
    return options.out or Path('results') / f'tune_{Path(options.config).stem}'


class Tuning:
    """Trials of several methods, each with the same budget.

    Raises:
        ValueError: If the config has no methods, no validated tail average or not enough epochs,
            if ``store_views`` does not fit it, or if the options name another teacher than the one
            that is trained.
    """

    def __init__(self, options: TuningOptions, train_py: str, console: Console) -> None:
        self.options, self.train_py, self.console = options, train_py, console
        self.out = folder_of(options)
        self._prepare(options)

    def _prepare(self, options: TuningOptions) -> None:
        """Write the configs, choose the settings of the trials, and check them."""
        data, others = _split(options.cfg_options)
        teachers_data, self.teacher_options = _split(options.teacher_options)
        path, self.teacher = write_held_out(
            options.config, self.out, options.held_out, data, teachers_data
        )
        self.config = str(path)
        self.overrides = [f'default_hooks.checkpoint.max_keep_ckpts={options.tail}', *others]
        configs = {
            method: training('', self.config, method, self.overrides).cfg
            for method in options.methods
        }
        first = next(iter(configs.values()))
        self.views = default_views(first) if options.store_views is None else options.store_views
        self.found = {
            method: settings(cfg, method, options.trials) for method, cfg in configs.items()
        }
        self.finals: dict[str, list[Trial]] = {}
        self._check(self.jobs_of(self.found[options.methods[0]][0], 1)[0].cfg)

    def _check(self, cfg: Config) -> None:
        """Reject settings that would fail after the training."""
        average = cfg.default_hooks.get('tail_average')
        if not average or not average.get('evaluate', True):
            raise ValueError(
                'the trials are compared by their tail averages: the config needs a '
                'default_hooks.tail_average that is evaluated'
            )
        saving = cfg.default_hooks.get('checkpoint') or {}
        if not saving.get('by_epoch', True) or saving.get('interval') != 1:
            raise ValueError(
                'to compare averages, a search needs a checkpoint after every epoch: set '
                f'default_hooks.checkpoint.interval=1 epoch, got {dict(saving)}'
            )
        tail, epochs = self.options.tail, cfg.train_cfg.get('max_epochs') or 0
        if not 2 <= tail <= epochs:
            raise ValueError(f'--tail must be from 2 to {epochs}, the epochs of a run; got {tail}')
        expected = load_config(self.config).model.get('teacher_ckpt')
        if self.teacher and cfg.model.get('teacher_ckpt') != expected:
            raise ValueError(
                'a search trains its own teacher, which must not have seen the held-out images; '
                f'leave out model.teacher_ckpt={cfg.model.get("teacher_ckpt")}'
            )

    def run(self) -> None:
        """Train the missing runs: the teacher, the trials, the finalists."""
        if self.teacher:
            teacher = training(
                'teacher', str(self.teacher), None, self.teacher_options, amp=self.options.amp
            )
            Pool(self.train_py, self.console).run([teacher])
        else:
            self.console.print(f'Teacher: {self.about_the_teacher()}', highlight=False)
        self._run([trial for found in self.found.values() for trial in found], 1)
        self.finals = {
            method: finalists(found, self.options.finalists) for method, found in self.found.items()
        }
        self._run([trial for final in self.finals.values() for trial in final], self.options.seeds)

    def about_the_teacher(self) -> str:
        """Whether the teacher has seen the held-out images, in words."""
        if self.teacher:
            return 'trained without the held-out images'
        return 'given (the config has no teacher_config); it may have seen the held-out images'

    def jobs_of(self, trial: Trial, seeds: int) -> list[Job]:
        """The runs of a trial."""
        return [
            training(
                f'{METHODS[trial.method]}, trial {trial.number}',
                self.config,
                trial.method,
                [*self.overrides, *trial.options],
                seed,
                self.options.amp,
                f'_trial{trial.number}',
                self.views,
            )
            for seed in range(seeds)
        ]

    def _run(self, trials: Sequence[Trial], seeds: int) -> None:
        runs = [(trial, self.jobs_of(trial, seeds)) for trial in trials]
        # ordered by seed, so that an interrupted search has finished complete rounds
        jobs = [job for round_ in zip(*(jobs for _, jobs in runs)) for job in round_]
        begin_shared_store(jobs, self.console)
        Pool(self.train_py, self.console, self.options.jobs).run(jobs)
        for trial, jobs in runs:
            top1 = [self._top1(job) for job in jobs]
            trial.last, trial.averaged = (list(values) for values in zip(*top1))

    def _top1(self, job: Job) -> tuple[float, float]:
        """Top-1 of a run after its last epoch, and of its tail average."""
        record = job.record()
        if record.last is None or record.averaged is None:
            raise ValueError(
                f"the log in '{job.work_dir}' lacks the top-1 of the last epoch or of the average; "
                'move that folder away and run the same command again'
            )
        return record.last, record.averaged

    def write(self, command: str) -> None:
        """Compare averages of the winners, and write the report, which shows ``command``."""
        tails = {}
        with Progress(console=self.console, transient=True) as progress:
            for method, final in self.finals.items():
                jobs = progress.track(
                    self.jobs_of(winner(final), self.options.seeds),
                    description=f'{METHODS[method]}: the tail',
                )
                tails[method] = average_over_seeds(
                    [tail_choices(job.cfg, choose_device()) for job in jobs]
                )
        chosen = write_search(self.out, self.found, self.finals, tails, self._protocol(command))
        self.console.print(chosen, highlight=False, soft_wrap=True)

    def _protocol(self, command: str) -> dict[str, str]:
        """Protocol of the search: values by name."""
        runs = [
            job
            for found in self.found.values()
            for trial in found
            for job in self.jobs_of(trial, len(trial.averaged))
        ]
        others = min(self.options.finalists, self.options.trials - 1)
        hours = sum(job.notes()['seconds'] for job in runs) / 3600
        return dict(
            command=command,
            config=self.config,
            seeds=', '.join(map(str, range(self.options.seeds))),
            **protocol(runs),
            held_out=f'every {self.options.held_out}th training image of each class',
            teacher=self.about_the_teacher(),
            budget=f'{self.options.trials} settings of each method, {others} and those of the '
            f'config with {self.options.seeds} seeds: {len(runs)} runs of students, '
            f'{hours:.1f} hours in all',
        )
