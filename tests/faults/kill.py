"""Kill training runs with SIGKILL, resume them, and compare them with an uninterrupted run.

    python tests/faults/kill.py 20 --seed 0

Each trial draws the moment of the kill, the epoch, the number of data workers
and the kind of teacher. After the resume, weights, optimizer, schedulers,
average, losses and validation rows must equal those of an uninterrupted run
without data workers, bit for bit; a store that was being filled must contain
the same logits.
"""

import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

import torch  # noqa: E402
import toy  # noqa: E402

from prkd_mm.scalars import read_scalars  # noqa: E402

EPOCHS, TAIL = 4, 2
IN_AN_EPOCH = 'in an epoch'
WRITING = 'while a checkpoint is written'
BEFORE_VALIDATION = 'between checkpoint and validation'
AVERAGING = 'while the average is written'
FILLING = 'while the store is filled'
TWICE = 'twice'
MOMENTS = (IN_AN_EPOCH, WRITING, BEFORE_VALIDATION, AVERAGING, FILLING, TWICE)
# largest time between the event and the kill, in seconds; an epoch takes about one
_DELAYS = {IN_AN_EPOCH: 1.0, TWICE: 1.0, FILLING: 0.2}
_SHORT_DELAY = 0.02
TEACHERS = ('live', 'stored', 'filling')
CONFIG = str(ROOT / 'configs/quickstart/prkd_digits.py')
_LIMIT = 300  # seconds until a process counts as stuck
_MEASURED = ('time', 'data_time', 'memory', 'eta')  # differ from run to run


class Trial(NamedTuple):
    """Settings of one trial.

    Attributes:
        moment (str): One of :data:`MOMENTS`.
        epoch (int): The epoch of the kill, starting at 1.
        delay (float): Time to wait before the kill, from 0 to 1, as a fraction
            of the largest delay at this moment.
        workers (int): Number of data workers.
        teacher (str): One of :data:`TEACHERS`.
    """

    moment: str
    epoch: int
    delay: float
    workers: int
    teacher: str


def draw(seed: int) -> Iterator[Trial]:
    """Endless sequence of trials, determined by the seed.

    Six trials in a row have all moments, four all epochs, three all teachers.
    """
    generator = random.Random(seed)
    moments, epochs = _deck(generator, MOMENTS), _deck(generator, range(1, EPOCHS + 1))
    workers, teachers = _deck(generator, (0, 2)), _deck(generator, TEACHERS)
    while True:
        trial = Trial(
            next(moments), next(epochs), generator.random(), next(workers), next(teachers)
        )
        if trial.moment == FILLING:
            trial = trial._replace(teacher='filling', epoch=1)
        elif trial.moment == AVERAGING:
            trial = trial._replace(epoch=EPOCHS)
        yield trial


def _deck(generator: random.Random, values: Sequence) -> Iterator[Any]:
    """Draw all values in random order, again and again."""
    while True:
        yield from generator.sample(values, len(values))


def train_teacher(folder: Path) -> None:
    """Train the teacher for one epoch; it only needs to be better than chance."""
    _run(folder, [str(ROOT / 'configs/quickstart/teacher_digits.py'), *_options(1)]).wait()


def command(name: str, workers: int, teacher: str) -> list[str]:
    """The arguments of ``tools/train.py`` for a run."""
    options = _options(EPOCHS, f'default_hooks.tail_average.num_epochs={TAIL}')
    options += [f'train_dataloader.num_workers={workers}']
    if teacher == 'filling':
        options += ['model.teacher_logits.views=2', f'model.teacher_logits.folder=stores/{name}']
    elif teacher == 'stored':
        options += [f'model.teacher_logits=stores/{straight_name(teacher)}']
    return [CONFIG, '--work-dir', f'runs/{name}', *options]


def straight_name(teacher: str) -> str:
    """Name of the uninterrupted run; it fills the store that other runs replay."""
    return 'straight_live' if teacher == 'live' else 'straight_filling'


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


def run_and_kill(folder: Path, arguments: list[str], trial: Trial, name: str) -> bool:
    """Start a training run and kill it at the moment of the trial.

    Returns:
        bool: False if the run had finished before.
    """
    process = _run(folder, arguments)
    try:
        start, waited_from = time.monotonic(), None
        delay = trial.delay * _DELAYS.get(trial.moment, _SHORT_DELAY)
        while process.poll() is None and time.monotonic() - start < _LIMIT:
            if waited_from is None and _has_come(trial, folder, name):
                waited_from = time.monotonic()
            if waited_from is not None and time.monotonic() - waited_from >= delay:
                break
            time.sleep(0.0005)
    finally:
        _end(process)
    return process.returncode == -signal.SIGKILL


def _has_come(trial: Trial, folder: Path, name: str) -> bool:
    run, before = folder / 'runs' / name, trial.epoch - 1
    if trial.moment == WRITING:
        return any(run.glob(f'.epoch_{trial.epoch}.pth.*.partial'))
    if trial.moment == AVERAGING:
        return any(run.glob('.student_avg.pth.*.partial'))
    if trial.moment == BEFORE_VALIDATION:
        return (run / f'epoch_{trial.epoch}.pth').exists()
    if trial.moment == FILLING:
        return (folder / 'stores' / name / 'store.json').exists()
    if before:
        return (run / f'epoch_{before}.pth').exists()
    return any(run.glob('*/vis_data/scalars.json'))


def _end(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def try_once(folder: Path, name: str, trial: Trial) -> bool:
    """Kill, resume and compare.

    Returns:
        bool: Whether the run was killed before it had finished.

    Raises:
        AssertionError: If anything differs from the uninterrupted run.
    """
    arguments = command(name, trial.workers, trial.teacher)
    killed = run_and_kill(folder, arguments, trial, name)
    if trial.moment == TWICE:
        second = trial._replace(moment=BEFORE_VALIDATION, epoch=min(trial.epoch + 1, EPOCHS))
        killed = run_and_kill(folder, [*arguments, '--resume'], second, name) and killed
    finish(folder, [*arguments, '--resume'])
    straight = straight_name(trial.teacher)
    compare(folder / 'runs' / name, folder / 'runs' / straight)
    if trial.teacher == 'filling':
        one, other = (folder / 'stores' / each / 'logits.npy' for each in (name, straight))
        assert one.read_bytes() == other.read_bytes(), 'the stored logits differ'
    return killed


def compare(run: Path, straight: Path) -> None:
    """Assert that two runs wrote the same results, bit for bit."""
    parts = ('state_dict', 'optimizer', 'param_schedulers', 'tail_average')
    for name, keys in ((f'epoch_{EPOCHS}.pth', parts), ('student_avg.pth', ('state_dict',))):
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
    for i, trial in enumerate(itertools.islice(trials or draw(seed), count)):
        straight = straight_name(trial.teacher)
        if not (folder / 'runs' / straight).exists():
            finish(folder, command(straight, 0, straight.removeprefix('straight_')))
        try:
            killed = try_once(folder, f'trial_{i}', trial)
            result = 'same' if killed else 'same, but the run had finished before the kill'
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
