"""Kill training runs with SIGKILL, resume them, and compare them with an uninterrupted run.

    python tests/faults/kill.py 20 --seed 0

Each trial draws the moment of the kill, the number of data workers and the kind
of teacher. After the resume, weights, optimizer, average, losses and
validation rows must equal those of the uninterrupted run, bit for bit.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

import torch  # noqa: E402
import toy  # noqa: E402

from prkd_mm.scalars import read_scalars  # noqa: E402

EPOCHS, TAIL = 4, 2
MOMENTS = ('in an epoch', 'while a checkpoint is written', 'after a checkpoint', 'twice')
TEACHERS = dict(live=[], filling=['--store-views', '2'])
CONFIG = str(ROOT / 'configs/quickstart/prkd_digits.py')
_LIMIT = 300  # seconds until a process counts as stuck
_MEASURED = ('time', 'data_time', 'memory', 'eta')  # differ from run to run


class Trial(NamedTuple):
    """Settings of one trial.

    Attributes:
        moment (str): One of :data:`MOMENTS`.
        epoch (int): The epoch of the kill, starting at 1.
        delay (float): Time to wait before the kill, from 0 to 1; see :func:`_wait`.
        workers (int): Number of data workers.
        teacher (str): A key of :data:`TEACHERS`.
    """

    moment: str
    epoch: int
    delay: float
    workers: int
    teacher: str


def draw(seed: int) -> Iterator[Trial]:
    """Endless sequence of trials, determined by the seed."""
    generator = random.Random(seed)
    while True:
        yield Trial(
            generator.choice(MOMENTS),
            generator.randint(1, EPOCHS),
            generator.random(),
            generator.choice((0, 2)),
            generator.choice(sorted(TEACHERS)),
        )


def train_teacher(folder: Path) -> None:
    """Train the teacher for one epoch; it only needs to be better than chance."""
    _run(folder, [str(ROOT / 'configs/quickstart/teacher_digits.py'), *_options(1)]).wait()


def command(name: str, workers: int, teacher: str) -> list[str]:
    """The arguments of ``tools/train.py`` for a run."""
    options = _options(EPOCHS, f'default_hooks.tail_average.num_epochs={TAIL}')
    options += [f'train_dataloader.num_workers={workers}']
    return [CONFIG, '--work-dir', f'runs/{name}', *TEACHERS[teacher], *options]


def _options(epochs: int, *more: str) -> list[str]:
    return [
        '--cfg-options', f'train_cfg.max_epochs={epochs}', 'default_hooks.logger.interval=1',
        'randomness.deterministic=True', *more,
    ]  # fmt: skip


def _run(folder: Path, arguments: list[str]) -> subprocess.Popen:
    with open(folder / 'output.txt', 'a') as output:
        return subprocess.Popen(
            [sys.executable, '-W', 'ignore', str(ROOT / 'tools/train.py'), *arguments],
            cwd=folder,
            env=dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1'),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its workers can be killed, too
        )


def finish(folder: Path, arguments: list[str]) -> None:
    """Train to the end."""
    process = _run(folder, arguments)
    try:
        status = process.wait(_LIMIT)
    finally:
        _end(process)
    if status:
        text = (folder / 'output.txt').read_text()[-2000:]
        raise AssertionError(f'{" ".join(arguments)} ended with status {status}:\n{text}')


def run_and_kill(folder: Path, arguments: list[str], trial: Trial, run: Path) -> None:
    """Start a training run and kill it at the moment of the trial, or after it has finished."""
    process = _run(folder, arguments)
    try:
        start, waited_from = time.monotonic(), None
        while process.poll() is None and time.monotonic() - start < _LIMIT:
            if waited_from is None and _has_come(trial, run):
                waited_from = time.monotonic()
            if waited_from is not None and time.monotonic() - waited_from >= _wait(trial):
                break
            time.sleep(0.0005)
    finally:
        _end(process)


def _has_come(trial: Trial, run: Path) -> bool:
    if trial.moment == 'while a checkpoint is written':
        return any(run.glob(f'.epoch_{trial.epoch}.pth.*.partial'))
    if trial.moment == 'after a checkpoint':
        return (run / f'epoch_{trial.epoch}.pth').exists()
    before = trial.epoch - 1
    if before:
        return (run / f'epoch_{before}.pth').exists()
    return any(run.glob('*/vis_data/scalars.json'))


def _wait(trial: Trial) -> float:
    """Seconds between the event and the kill; an epoch takes about one."""
    return trial.delay if trial.moment in ('in an epoch', 'twice') else 0.02 * trial.delay


def _end(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def try_once(folder: Path, name: str, trial: Trial, straight: Path) -> None:
    """Kill, resume and compare.

    Raises:
        AssertionError: If anything differs from the uninterrupted run.
    """
    run = folder / 'runs' / name
    arguments = command(name, trial.workers, trial.teacher)
    run_and_kill(folder, arguments, trial, run)
    if trial.moment == 'twice':
        second = trial._replace(moment='after a checkpoint', epoch=min(trial.epoch + 1, EPOCHS))
        run_and_kill(folder, [*arguments, '--resume'], second, run)
    finish(folder, [*arguments, '--resume'])
    compare(run, straight)


def compare(run: Path, straight: Path) -> None:
    """Assert that two runs wrote the same results, bit for bit."""
    for name, keys in (
        (f'epoch_{EPOCHS}.pth', ('state_dict', 'optimizer', 'tail_average')),
        ('student_avg.pth', ('state_dict',)),
    ):
        one, other = (torch.load(path / name, weights_only=True) for path in (run, straight))
        for key in keys:
            toy.assert_same(one[key], other[key], f'{name}: {key}')
    one, other = (_logged(path) for path in (run, straight))
    assert sorted(one) == sorted(other), f'rows of {sorted(set(other) ^ set(one))} are lost'
    for step, row in other.items():
        assert one[step] == row, f'{step}: {one[step]} instead of {row}'


def _logged(run: Path) -> dict[tuple[str, int], dict]:
    """Training and validation rows by step; repeated steps count once."""
    found = {}
    for row in read_scalars(run):
        kind = 'training' if 'lr' in row else 'validation'
        if 'step' in row and ('lr' in row or 'accuracy/top1' in row):
            values = {name: row[name] for name in row if name not in _MEASURED}
            found[kind, row['step']] = values
    return found


def kill(folder: Path, count: int, seed: int, trials: Optional[list[Trial]] = None) -> int:
    """Run trials and print one line for each; return the number of failures."""
    train_teacher(folder)
    failures = 0
    drawn = iter(trials) if trials else draw(seed)
    for i in range(count):
        trial = next(drawn)
        straight = folder / 'runs' / f'straight_{trial.workers}_{trial.teacher}'
        if not straight.exists():
            finish(folder, command(straight.name, trial.workers, trial.teacher))
        try:
            try_once(folder, f'trial_{i}', trial, straight)
            result = 'same'
        except AssertionError as error:
            failures += 1
            result = f'DIFFERS: {error}'
        print(f'{i + 1}/{count}: {trial}: {result}', flush=True)
    return failures


def main() -> None:
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('count', type=int, nargs='?', default=3, help='trials; default: 3')
    parser.add_argument('--seed', type=int, default=0, help='seed of the trials; default: 0')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        failures = kill(Path(folder), args.count, args.seed)
    sys.exit(f'{failures} of {args.count} runs differ' if failures else 0)


if __name__ == '__main__':
    main()
