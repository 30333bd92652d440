"""Train a config's teacher, and its student by several methods and seeds."""
import os
import queue
import shlex
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import torch
from mmengine.config import Config
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..config import METHODS, load_config, seed_suffix
from .job import Job, run

def training(title: str,
             config: str,
             method: Optional[str] = None,
             options: Sequence[str] = (),
             seed: Optional[int] = None,
             amp: bool = False,
             suffix: str = '') -> Job:
    """A run of ``tools/train.py``, in a work dir of its own.

    Args:
        title (str): What the user reads.
        config (str): A config.
        method (str, optional): Of :data:`METHODS`. Defaults to None: a net
            alone.
        options (Sequence[str]): ``KEY=VALUE``. Defaults to none.
        seed (int, optional): Seed 0 has the work dir that
            ``tools/train.py`` would take. Defaults to None: what the config
            and the options say.
        amp (bool): Mixed precision. Defaults to False.
        suffix (str): Of the work dir. Defaults to ''.

    Raises:
        ValueError: ``seed``, and the options say another.
    """
    arguments = [config]
    if method:
        arguments += ['--method', method]
    if amp:
        arguments += ['--amp']
    if seed is not None:
        if any(option.startswith('randomness.seed=') for option in options):
            raise ValueError('randomness.seed is what tells the runs of a '
                             'method apart, 0, 1, ...: leave it out of the '
                             'options')
        options = [*options, f'randomness.seed={seed}']
    if seed:
        title += f', seed {seed}'
        suffix += seed_suffix(seed)
    if suffix:
        first = load_config(config, method).work_dir
        arguments += ['--work-dir', f'{first}{suffix}']
    if options:
        arguments += ['--cfg-options', *options]
    return Job(title, arguments, method, seed or 0)


def plan(config: str,
         methods: Sequence[str],
         options: Sequence[str] = (),
         teacher_options: Sequence[str] = (),
         seeds: int = 1,
         amp: bool = False) -> List[Job]:
    """The jobs that a comparison needs; the teacher's first.

    The teacher is trained, once, if ``teacher_ckpt`` is the work dir of
    ``teacher_config``; any other checkpoint has to be there. A config that
    knows no methods, as a teacher's, is one job a seed. The runs of seed 0
    keep all checkpoints that they average, for the analyses.

    Args:
        config (str): A config.
        methods (Sequence[str]): Of :data:`METHODS`.
        options (Sequence[str]): ``KEY=VALUE`` for the students' runs.
            Defaults to none.
        teacher_options (Sequence[str]): The same for the teacher's. Defaults
            to none.
        seeds (int): Runs of each method, with the seeds 0, 1, ... Seed 0 has
            the work dir that ``tools/train.py`` would take. Defaults to 1.
        amp (bool): Mixed precision. Defaults to False.

    Raises:
        ValueError: The config counts iterations, not epochs; or see
            :func:`training`.
    """
    own = load_config(config)
    if not own.train_cfg.get('max_epochs'):
        raise ValueError(f'{config} is not trained by epochs (train_cfg: '
                         f'{own.train_cfg}), which a comparison goes by')
    if 'method' not in own:
        return [
            training('alone', config, None, options, k, amp)
            for k in range(seeds)
        ]
    kept = _keep_the_tail(training('', config, methods[0], options).cfg)
    jobs = [
        training(METHODS[method], config, method,
                 options if k else [*kept, *options], k, amp)
        for k in range(seeds) for method in methods
    ]
    model = jobs[-1].cfg.model
    if model.get('teacher_config') and model.get('teacher_ckpt'):
        teacher = training('teacher', model.teacher_config, None,
                           teacher_options, amp=amp)
        if Path(model.teacher_ckpt).resolve() == teacher.work_dir.resolve():
            jobs.insert(0, teacher)
    return jobs


def _keep_the_tail(cfg: Config) -> List[str]:
    """The option that keeps all checkpoints that a run averages."""
    tail = (cfg.default_hooks.get('tail_average') or {}).get('num_epochs', 0)
    saving = cfg.default_hooks.get('checkpoint')
    if not saving:
        return []
    kept = saving.get('max_keep_ckpts', -1)
    if kept < 0 or kept >= tail:
        return []
    return [f'default_hooks.checkpoint.max_keep_ckpts={tail}']


def run_all(jobs: Sequence[Job],
            train_py: str,
            console: Console,
            side_by_side: int = 1) -> None:
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
            console=console) as progress:
        everything = progress.add_task(
            'all runs', total=len(jobs), state='', visible=len(jobs) > 1)

        def work(job: Job) -> None:
            shown = shlex.join(['tools/train.py', *job.arguments])
            progress.console.print(
                f'$ python {shown}', highlight=False, soft_wrap=True)
            place = places.get()
            try:
                run(job, train_py, _Reporter(progress, job.title),
                    _environment(place, side_by_side))
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


def _environment(place: int, side_by_side: int) -> Dict[str, str]:
    """What keeps jobs that run side by side out of each other's way."""
    if side_by_side == 1:
        return {}
    if torch.cuda.is_available():
        given = os.environ.get('CUDA_VISIBLE_DEVICES')
        gpus = given.split(',') if given else [
            str(i) for i in range(torch.cuda.device_count())
        ]
        return dict(CUDA_VISIBLE_DEVICES=gpus[place % len(gpus)])
    threads = max(1, (os.cpu_count() or 1) // side_by_side)
    return dict(OMP_NUM_THREADS=str(threads))


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
