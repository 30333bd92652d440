"""Run many trainings, several at a time, under one display."""

import os
import queue
import shlex
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from .job import Job, run


def run_all(jobs: Sequence[Job], train_py: str, console: Console, side_by_side: int = 1) -> None:
    """Run jobs, the teacher first, the others side by side.

    On GPUs the jobs take turns at them; on a CPU they share its cores.

    Args:
        jobs (Sequence[Job]): Of :func:`plan`.
        train_py (str): Path of ``tools/train.py``.
        console (Console): Where to show one display for all.
        side_by_side (int): How many at a time. Defaults to 1.

    Raises:
        TrainingFailed: Of the first job that failed; the others that were
            running have come to their end, no further one has begun.
    """
    places = queue.SimpleQueue()
    for place in range(side_by_side):
        places.put(place)
    teachers = [job for job in jobs if job.method is None]
    students = [job for job in jobs if job.method is not None]
    with Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        TextColumn('{task.fields[state]}'),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        everything = progress.add_task('all runs', total=len(jobs), state='', visible=len(jobs) > 1)

        def work(job: Job) -> None:
            shown = shlex.join(['tools/train.py', *job.arguments])
            progress.console.print(f'$ python {shown}', highlight=False, soft_wrap=True)
            place = places.get()
            try:
                run(
                    job, train_py, _Reporter(progress, job.title), _environment(place, side_by_side)
                )
            finally:
                places.put(place)
            progress.advance(everything)

        for batch in (teachers, students):  # students need their teacher
            with ThreadPoolExecutor(side_by_side) as pool:
                futures = [pool.submit(work, job) for job in batch]
                try:
                    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                except KeyboardInterrupt:
                    for job in batch:
                        job.stop()
                    raise
                finally:
                    for future in futures:
                        future.cancel()
            for future in done:
                future.result()


def _environment(place: int, side_by_side: int) -> dict[str, str]:
    """What keeps jobs that run side by side out of each other's way."""
    if side_by_side == 1:
        return {}
    if torch.cuda.is_available():
        given = os.environ.get('CUDA_VISIBLE_DEVICES')
        gpus = given.split(',') if given else [str(i) for i in range(torch.cuda.device_count())]
        return dict(CUDA_VISIBLE_DEVICES=gpus[place % len(gpus)])
    threads = max(1, (os.cpu_count() or 1) // side_by_side)
    return dict(OMP_NUM_THREADS=str(threads))


class _Reporter:
    """Shows one job's progress: a bar, or lines where there is no screen."""

    def __init__(self, progress: Progress, title: str) -> None:
        self.progress, self.title, self.next_line = progress, title, 0.0
        self.task = progress.add_task(title, state='starts', total=None)

    def __call__(self, state: str, done: int, total: int) -> None:
        self.progress.update(self.task, state=state, completed=done, total=total)
        if not self.progress.console.is_terminal and (done >= self.next_line * total):
            self.next_line = done / total + 0.1
            self.progress.console.print(f'{self.title}: {state}', highlight=False)
