"""Train a config's teacher and its student under several methods; compare."""
import argparse
import contextlib
import hashlib
import itertools
import json
import math
import re
import shlex
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Callable, Dict, List

from mmrazor.registry import MODELS
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .checkpoints import resolve
from .runs import add_common_arguments, load_config
from .visualization import plot_accuracy

METHODS = dict(
    ce='student alone',
    logit='student, logit matching',
    kd='student, KD',
    dist='student, DIST',
    prkd_a='student, PRKDa',
    prkd_b='student, PRKDb',
    prkd='student, PRKD')
TEACHER = 'teacher'
TOP1, AVERAGED_TOP1 = 'accuracy/top1', 'student_avg/accuracy/top1'
_STEP = re.compile(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\].*?'
                   r'\sloss: (\S+)')
_EVALUATION = re.compile(r'Epoch\(val\).*? accuracy/top1: (\S+)')


class Job:
    """One training run: a command, and what it leaves in its work dir.

    Args:
        title (str): What the user reads.
        arguments (list[str]): The command line of ``tools/train.py``.
    """

    def __init__(self, title: str, arguments: List[str]) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument('config')
        parser.add_argument('--amp', action='store_true')
        add_common_arguments(parser)
        args = parser.parse_args(arguments)
        self.title = title
        self.arguments = arguments
        self.cfg = load_config(args.config, args.method, args.cfg_options,
                               args.work_dir)
        self.work_dir = Path(self.cfg.work_dir)
        self._record = self.work_dir / 'job.json'

    @property
    def fingerprint(self) -> str:
        """Of all that makes a run another experiment: its command, its
        resolved config, its teacher's file."""
        teacher = self.cfg.model.get('teacher_ckpt')
        if teacher and self.cfg.get('method') != 'ce':
            with contextlib.suppress(FileNotFoundError):
                path = resolve(teacher)
                teacher = path, Path(path).stat().st_mtime_ns
        text = json.dumps(
            ['--amp' in self.arguments, self.cfg.to_dict(), teacher],
            sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def was_made_by_hand(self) -> bool:
        """Whether checkpoints are there that no comparison has made."""
        return (not self._record.exists()
                and (self.work_dir / 'last_checkpoint').exists())

    def set_aside(self) -> Path:
        """Rename the work dir, which another experiment has left."""
        names = (self.work_dir.with_name(f'{self.work_dir.name}.{i}')
                 for i in itertools.count(1))
        return self.work_dir.rename(
            next(name for name in names if not name.exists()))

    def record(self) -> dict:
        """What was noted of this very experiment: empty if nothing."""
        if not self._record.is_file():
            return {}
        noted = json.loads(self._record.read_text())
        return noted if noted['fingerprint'] == self.fingerprint else {}

    def note(self, **values) -> None:
        noted = dict(self.record(), fingerprint=self.fingerprint, **values)
        self.work_dir.mkdir(parents=True, exist_ok=True)
        self._record.write_text(json.dumps(noted, indent=1))

    def scalars(self) -> List[dict]:
        """All that the run logged, in order."""
        return [
            json.loads(line)
            for file in sorted(self.work_dir.glob('*/vis_data/scalars.json'))
            for line in file.read_text().splitlines()
        ]

    def curve(self, metric: str) -> Dict[int, float]:
        """A validation metric by epoch (the last value logged for each)."""
        return {
            row['step']: row[metric]
            for row in self.scalars() if metric in row
        }

    def num_parameters(self) -> int:
        """Of the net that is trained."""
        model = self.cfg.model.get('architecture', self.cfg.model)
        net = MODELS.build(model.to_dict())
        return sum(parameter.numel() for parameter in net.parameters())


class TrainingFailed(RuntimeError):
    """A training command ended with an error."""


def run(job: Job, train_py: str, report: Callable[[str, int, int], None]
        ) -> None:
    """Run a job: from the start, from where it was cut off, or not at all.

    Args:
        job (Job): The job.
        train_py (str): Path of ``tools/train.py``.
        report (Callable): Called as ``report(state, done, total)``, in
            iterations.

    Raises:
        TrainingFailed: With the last lines that the command printed.
    """
    if 'finished' in job.record():
        return report('done before', 1, 1)
    if job.title == TEACHER and job.was_made_by_hand:
        return report('is there', 1, 1)  # it may have taken days
    if not job.record():
        if job.work_dir.exists():
            report(f'kept another experiment as {job.set_aside()}', 0, 1)
        job.note(seconds=0.)
    resume = (job.work_dir / 'last_checkpoint').exists()
    command = [sys.executable, train_py, *job.arguments]
    command += ['--resume'] * resume
    before, start = job.record()['seconds'], time.monotonic()
    epochs, accuracy, tail = job.cfg.train_cfg.max_epochs, '', deque(maxlen=30)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for line in process.stdout:
            tail.append(line)
            if found := _EVALUATION.search(line):
                accuracy = f'  top-1 {float(found[1]):.1f} %'
            elif found := _STEP.search(line):
                epoch, step, steps = map(int, found.groups()[:3])
                report(f'epoch {epoch}/{epochs}  loss {found[4]}{accuracy}',
                       (epoch - 1) * steps + step, epochs * steps)
        process.wait()
    finally:
        process.terminate()  # only if we were interrupted is it still there
        job.note(seconds=before + time.monotonic() - start)
    if process.returncode:
        raise TrainingFailed(
            f'{shlex.join(command)} failed with exit status '
            f'{process.returncode}:\n{"".join(tail)}')
    job.note(finished=True)
    report(f'epoch {epochs}/{epochs}{accuracy}', 1, 1)


def plan(config: str, methods: List[str], options: List[str],
         teacher_options: List[str], amp: bool = False) -> List[Job]:
    """The jobs that a comparison needs, in order; the teacher's first.

    The teacher is trained if ``teacher_ckpt`` is the work dir of
    ``teacher_config``; any other checkpoint has to be there. A config that
    knows no methods, as a teacher's, is one job.
    """

    def job(title: str, path: str, *method: str, options: List[str]) -> Job:
        return Job(title, [
            path, *method, *(['--amp'] if amp else []),
            *(['--cfg-options', *options] if options else [])
        ])

    if 'method' not in load_config(config):
        return [job('alone', config, options=options)]
    jobs = [
        job(METHODS[method], config, '--method', method, options=options)
        for method in methods
    ]
    model = jobs[-1].cfg.model
    if model.get('teacher_config'):
        teacher = job(TEACHER, model.teacher_config, options=teacher_options)
        if Path(model.teacher_ckpt).resolve() == teacher.work_dir.resolve():
            jobs.insert(0, teacher)
    return jobs


def compare(jobs: List[Job], train_py: str, console: Console) -> None:
    """Run jobs one after the other, then show and save what came of them.

    Writes ``comparison.json`` and ``comparison.png`` into the last job's work
    dir.

    Args:
        jobs (list[Job]): Of :func:`plan`.
        train_py (str): Path of ``tools/train.py``.
        console (Console): Where to show progress and the table.
    """
    with Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            TextColumn('{task.fields[state]}'),
            TimeElapsedColumn(),
            console=console) as progress:
        for job in jobs:
            shown = shlex.join(['tools/train.py', *job.arguments])
            progress.console.print(f'$ python {shown}', highlight=False)
            run(job, train_py, _Reporter(progress, job.title))
    rows = results(jobs)
    folder = jobs[-1].work_dir
    (folder / 'comparison.json').write_text(json.dumps(rows, indent=1))
    curves = {
        job.title: (job.curve(TOP1), job.curve(AVERAGED_TOP1))
        for job in jobs if job.curve(TOP1)
    }
    if curves:
        plot_accuracy(curves, folder / 'comparison.png')
    console.print(_table(rows))
    for name, what in (('comparison.png', 'Figure'),
                       ('schedule.png', 'Schedule'),
                       ('student_avg.pth', 'The student to use')):
        if (folder / name).exists():
            console.print(f'{what}: {folder / name}', highlight=False,
                          soft_wrap=True)


class _Reporter:
    """Shows one job's progress: a bar, or lines where there is no screen."""

    def __init__(self, progress: Progress, title: str) -> None:
        self.progress, self.title, self.next_line = progress, title, 0.
        self.task = progress.add_task(title, state='starts', total=None)

    def __call__(self, state: str, done: int, total: int) -> None:
        self.progress.update(
            self.task, state=state, completed=done, total=total)
        if not self.progress.console.is_terminal and (
                done >= self.next_line * total):
            self.next_line = done / total + 0.1
            self.progress.console.print(
                f'{self.title}: {state}', highlight=False)


def results(jobs: List[Job]) -> List[dict]:
    """A row a job, and one for the last job's tail average.

    Accuracies are those of the last epoch, in percent.
    """
    rows = []
    for job in jobs:
        averaged = job.curve(AVERAGED_TOP1)
        rows.append(
            dict(
                name=job.title,
                top1=_last(job.curve(TOP1)),
                top1_averaged=_last(averaged) if averaged else None,
                parameters=job.num_parameters(),
                seconds=job.record().get('seconds', math.nan),
                command=['tools/train.py', *job.arguments]))
    if rows[-1]['top1_averaged'] is not None:
        rows.append(
            dict(
                rows[-1],
                name=f'{rows[-1]["name"]}, averaged',
                top1=rows[-1]['top1_averaged']))
    return rows


def _last(curve: Dict[int, float]) -> float:
    return curve[max(curve)] if curve else math.nan


def _table(rows: List[dict]) -> Table:
    table = Table(title='Held-out accuracy after the last epoch')
    table.add_column('')
    for name in ('top-1 %', 'parameters', 'seconds'):
        table.add_column(name, justify='right')
    for row in rows:
        table.add_row(row['name'], f'{row["top1"]:.2f}',
                      f'{row["parameters"]:,}', f'{row["seconds"]:.0f}')
    return table
