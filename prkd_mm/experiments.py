"""Train a config's teacher and its student under several methods; compare."""
import argparse
import hashlib
import json
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
        """Of the resolved config: another one is another experiment."""
        text = json.dumps(self.cfg.to_dict(), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

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
    resume = bool(job.record()) and (job.work_dir / 'last_checkpoint').exists()
    if not resume:
        # what another config left here would mix with this run's
        for file in job.work_dir.glob('*/vis_data/scalars.json'):
            file.unlink()
        job.note(seconds=0.)
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
         teacher_options: List[str]) -> List[Job]:
    """The jobs that a comparison needs, in order; the teacher's first.

    The teacher is trained if ``teacher_ckpt`` is the work dir of
    ``teacher_config``; any other checkpoint has to be there.
    """
    jobs = [
        Job(METHODS[method], [
            config, '--method', method,
            *(['--cfg-options', *options] if options else [])
        ]) for method in methods
    ]
    model = jobs[-1].cfg.model
    if model.get('teacher_config'):
        teacher = Job('teacher', [
            model.teacher_config,
            *(['--cfg-options', *teacher_options] if teacher_options else [])
        ])
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
    plot_accuracy(
        {job.title: (job.curve(TOP1), job.curve(AVERAGED_TOP1))
         for job in jobs}, folder / 'comparison.png')
    console.print(_table(rows))
    console.print(f'Figure: {folder}/comparison.png, schedule: '
                  f'{folder}/schedule.png\n'
                  f'The student to use: {folder}/student_avg.pth',
                  highlight=False, soft_wrap=True)


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
                seconds=job.record()['seconds'],
                command=['tools/train.py', *job.arguments]))
    if rows[-1]['top1_averaged'] is not None:
        rows.append(
            dict(
                rows[-1],
                name=f'{rows[-1]["name"]}, averaged',
                top1=rows[-1]['top1_averaged']))
    return rows


def _last(curve: Dict[int, float]) -> float:
    return curve[max(curve)]


def _table(rows: List[dict]) -> Table:
    table = Table(title='Held-out accuracy after the last epoch')
    table.add_column('')
    for name in ('top-1 %', 'parameters', 'seconds'):
        table.add_column(name, justify='right')
    for row in rows:
        table.add_row(row['name'], f'{row["top1"]:.2f}',
                      f'{row["parameters"]:,}', f'{row["seconds"]:.0f}')
    return table
