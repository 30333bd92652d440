"""Run many training jobs, several at a time, with one progress display."""

import os
import queue
import shlex
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ..algorithms.student_alone import is_alone
from ..cli import command_of
from .job import Job
from .provenance import check_record, images_of
from .shared_store import begin_shared_store


def run_all(jobs: Sequence[Job], train_py: str, console: Console, side_by_side: int = 1) -> None:
    """Run the jobs of :func:`plan`: the teacher first, then the students.

    The students with ``--store-views`` share one logit store. A recorded run is not repeated. A
    teacher is trained only if a student without a record needs it.

    Raises:
        TrainingFailed: If a job fails.
        ValueError: If a recorded run had other images or another teacher.
    """
    recorded = [job for job in jobs if job.is_recorded]
    missing = [job for job in jobs if not job.is_recorded]
    students = [job for job in missing if job not in [other.teacher for other in jobs]]
    teachers = {job.teacher for job in students if job.teacher and not is_alone(job.cfg)}
    if recorded:
        console.print(f'{len(recorded)} of {len(jobs)} runs are recorded', highlight=False)
    for job in students:
        if not job.has_results:
            images_of(job.cfg)  # an error in them is found before the teacher is trained
    for job in recorded:
        check_record(job)
    for teacher in teachers:
        if not teacher.has_results and any(job.record().teacher for job in recorded):
            console.print(
                'The teacher of the recorded runs is not here, so it is trained again. If its '
                "weights differ, no student is trained: copy that teacher's work dir to "
                f"'{teacher.work_dir}' to avoid this",
                highlight=False,
                soft_wrap=True,
            )
    pool = Pool(train_py, console, side_by_side)
    pool.run(list(teachers))
    for job in recorded:
        check_record(job)  # now also with the teacher
    begin_shared_store(students, console)
    pool.run(students)


class Pool:
    """Runs jobs, several at a time: one GPU is assigned to each, or a share of the CPU cores."""

    def __init__(self, train_py: str, console: Console, side_by_side: int = 1) -> None:
        self.train_py, self.console, self.side_by_side = train_py, console, side_by_side
        self._failed = threading.Event()
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(side_by_side):
            self._slots.put(slot)

    def run(self, jobs: Sequence[Job]) -> None:
        """Run jobs until all are finished.

        Raises:
            TrainingFailed: If a job fails. Jobs that are running are finished first; the others
                are not started.
        """
        columns = (
            TextColumn('{task.description}'),
            BarColumn(),
            TextColumn('{task.fields[state]}'),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            total = progress.add_task('all runs', total=len(jobs), state='', visible=len(jobs) > 1)
            with ThreadPoolExecutor(self.side_by_side) as threads:
                futures = [threads.submit(self._run_one, job, progress, total) for job in jobs]
                try:
                    wait(futures, return_when=FIRST_EXCEPTION)
                except KeyboardInterrupt:
                    for job in jobs:
                        job.stop()
                    raise
                finally:
                    for future in futures:
                        future.cancel()
        for future in futures:
            if not future.cancelled():
                future.result()

    def _run_one(self, job: Job, progress: Progress, total: TaskID) -> None:
        if self._failed.is_set():  # this thread is free before the others are canceled
            return
        command = f'{command_of("train.py")} {shlex.join(job.arguments)}'
        self.console.print(f'$ {command}', highlight=False, soft_wrap=True)
        slot = self._slots.get()
        try:
            job.run(self.train_py, _Reporter(progress, job.title), self._environment(slot))
        except BaseException:
            self._failed.set()
            raise
        finally:
            self._slots.put(slot)
        progress.advance(total)

    def _environment(self, slot: int) -> dict[str, str]:
        """Environment variables that assign a GPU or a share of the cores to a job."""
        if self.side_by_side == 1:
            return {}
        if torch.cuda.is_available():
            given = os.environ.get('CUDA_VISIBLE_DEVICES')
            gpus = given.split(',') if given else [str(i) for i in range(torch.cuda.device_count())]
            return dict(CUDA_VISIBLE_DEVICES=gpus[slot % len(gpus)])
        threads = max(1, (os.cpu_count() or 1) // self.side_by_side)
        return dict(OMP_NUM_THREADS=str(threads))


class _Reporter:
    """Shows the progress of one job: a bar, or lines of text if there is no terminal."""

    def __init__(self, progress: Progress, title: str) -> None:
        self.progress, self.title, self.next_line = progress, title, 0.0
        self.task = progress.add_task(title, state='starting', total=None)

    def __call__(self, state: str, done: int, total: int) -> None:
        self.progress.update(self.task, state=state, completed=done, total=total)
        if not self.progress.console.is_terminal and done >= self.next_line * total:
            self.next_line = done / total + 0.1
            self.progress.console.print(f'{self.title}: {state}', highlight=False)
