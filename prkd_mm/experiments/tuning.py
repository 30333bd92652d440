"""A search, from end to end: train, choose, report."""
from pathlib import Path
from typing import List, Optional, Sequence

from rich.console import Console
from rich.progress import Progress

from ..analysis.report import choose_device
from ..runs import load_config
from ..storing import default_folder, store_teacher
from .comparison import METHODS, run_all, training
from .held_out import write_held_out
from .job import AVERAGED_TOP1, TOP1, Job
from .report import protocol
from .search import Trial, finalists, settings, winner
from .search_report import average_over_seeds, write_search
from .tail_choice import tail_choices


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
        tail (int): The most last epochs that are averaged. Defaults to 15.
        jobs (int): Runs side by side. Defaults to 1.
        views (int, optional): Store the teacher's logits of that many views
            and train from them. Defaults to None: the live teacher.
        cfg_options (Sequence[str]): For the students. Defaults to none.
        teacher_options (Sequence[str]): For the teacher. Defaults to none.
        amp (bool): Mixed precision. Defaults to False.

    Raises:
        ValueError: The config has no methods, or more epochs are to be
            averaged than it has.
    """

    def __init__(self,
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
                 amp: bool = False) -> None:
        self.out, self.train_py, self.console = out, train_py, console
        self.best, self.seeds, self.jobs = finalists, seeds, jobs
        self.views, self.amp, self.every = views, amp, held_out
        path, self.teacher = write_held_out(config, out, held_out)
        self.config = str(path)
        self.options = [
            f'default_hooks.checkpoint.max_keep_ckpts={tail}', *cfg_options
        ]
        self.teacher_options = teacher_options
        self.found = {}
        for method in methods:
            cfg = load_config(self.config, method)
            self.found[method] = settings(cfg, method, trials)

    def run(self) -> None:
        """Train what is missing: the teacher, the trials, the finalists."""
        if self.teacher:
            teacher = training('teacher', str(self.teacher), None,
                               self.teacher_options, 0, self.amp)
            run_all([teacher], self.train_py, self.console)
        if self.views:
            cfg = load_config(self.config, next(iter(self.found)))
            folder = default_folder(cfg, self.views)
            store_teacher(cfg, folder, self.views)
            self.options.append(f'model.teacher_logits={folder}')
        self._run(
            [trial for found in self.found.values() for trial in found], 1)
        self.finals = {
            method: finalists(found, self.best)
            for method, found in self.found.items()
        }
        self._run(
            [trial for final in self.finals.values() for trial in final],
            self.seeds)

    def jobs_of(self, trial: Trial, seeds: int) -> List[Job]:
        """The runs of a trial."""
        return [
            training(f'{METHODS[trial.method]}, trial {trial.number}',
                     self.config, trial.method,
                     [*self.options, *trial.options], seed, self.amp,
                     f'_trial{trial.number}') for seed in range(seeds)
        ]

    def _run(self, trials: Sequence[Trial], seeds: int) -> None:
        runs = [(trial, self.jobs_of(trial, seeds)) for trial in trials]
        # by seed, so that an early end leaves whole rounds
        jobs = [job for round_ in zip(*(jobs for _, jobs in runs))
                for job in round_]
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
                    description=f'{METHODS[method]}: the tail')
                tails[method] = average_over_seeds([
                    tail_choices(job.cfg, choose_device()) for job in watched
                ])
                for trial in found:
                    runs += self.jobs_of(trial, len(trial.averaged))
        budget = {
            method: f'{len(found)} settings, '
            f'{sum(len(trial.averaged) for trial in found)} runs'
            for method, found in self.found.items()
        }
        hours = sum(job.record()['seconds'] for job in runs) / 3600
        self.console.print(
            write_search(
                self.out, self.found, self.finals, tails,
                dict(
                    protocol(runs, command),
                    held_out=f'every {self.every}th training image of a class',
                    budget=f'{budget}; {hours:.1f} hours of runs')),
            highlight=False, soft_wrap=True)
