"""Measure what distillation costs here, and with MMRazor and MMPretrain as shipped."""

import argparse
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, NamedTuple

import prkd_mm  # noqa: F401  isort: skip  # patches what mmrazor imports
import torch
from mmengine.logging import MMLogger
from rich.console import Console

from prkd_mm import cli

from . import feed, hooks, loss, step, tables, topk, views, whole_run
from .comparison import Comparison, Settings
from .lower_bounds import measure_peaks
from .nets import PAIRS

EPILOG = (
    'All cases are first checked to compute the same thing. They are then timed '
    'alternately in one process: A B B A. On a CPU, the times are CPU times. (The former '
    'subject `scaling` was removed; its formulas are in docs/performance.md.)'
)


class Subject(NamedTuple):
    """What can be measured, and the defaults of its options."""

    run: Callable[..., list[Comparison]]
    words: str
    defaults: dict[str, Any]


SUBJECTS = dict(
    feed=Subject(
        feed.run,
        'data loading, from the data set to the normalized batch on the device',
        dict(images=1024, batch=64),
    ),
    step=Subject(
        step.run,
        'a training step without data loading, and its sections',
        dict(pairs=PAIRS, batch=64, size=32),
    ),
    loss=Subject(
        loss.run,
        "the loss, forward and backward, next to MMRazor's",
        dict(shapes=tuple(loss.SPEEDUPS)),
    ),
    average=Subject(hooks.run_average, 'averaging the weights', dict(pairs=PAIRS[:1])),
    logging=Subject(
        hooks.run_logging,
        "an iteration's scalars, early and late in a run",
        dict(iterations=hooks.ITERATIONS),
    ),
    run=Subject(
        whole_run.run,
        'whole training runs, as processes (several minutes)',
        dict(pairs=(whole_run.PAIR,), images=512),
    ),
)
STUDIES = dict(topk=topk, views=views)  # they measure accuracy, not cost
ALL = [name for name in SUBJECTS if name != 'run']


def _shape(text: str) -> tuple[int, int]:
    samples, _, classes = text.partition('x')
    return int(samples), int(classes)


OPTIONS = dict(
    images=dict(type=int, help='images per epoch'),
    batch=dict(type=int, help='images per batch'),
    pairs=dict(nargs='+', metavar='NAME', help='configs in configs/prkd'),
    size=dict(type=int, help='image height and width'),
    shapes=dict(type=_shape, nargs='+', metavar='NxC', help='numbers of samples and classes'),
    iterations=dict(type=int, nargs='+', metavar='N', help='lengths of the run, ascending'),
    rounds=dict(type=int, help='maximum number of rounds; every case runs once per round'),
    seconds=dict(
        type=float,
        metavar='S',
        help='start no new round of a comparison after this number of seconds, but run at '
        'least three',
    ),
    threads=dict(type=int, help='CPU threads of PyTorch'),
    device=dict(type=torch.device, help='cpu or cuda'),
    out=dict(type=Path, metavar='FOLDER', help='folder for the results'),
)
COMMON = dict(rounds=7, seconds=45.0, threads=1, device='cpu', out=Path('results/benchmark'))


def _add_options(parser: argparse.ArgumentParser, defaults: dict[str, Any]) -> None:
    for name, default in defaults.items():
        values = default if isinstance(default, tuple) else (default,)
        shown = ' '.join('x'.join(map(str, v)) if isinstance(v, tuple) else str(v) for v in values)
        options = dict(OPTIONS[name], default=default, dest=name)
        options['help'] = f'{options["help"]}; default: {shown}'
        parser.add_argument('--pair' if name == 'pairs' else f'--{name}', **options)


def _program() -> str:
    if Path(sys.argv[0]).name == '__main__.py':
        return '-m benchmarks'
    return sys.argv[0]


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(Path(_program()).name, description=__doc__, epilog=EPILOG)
    commands = parser.add_subparsers(dest='command', required=True)
    everything: dict[str, Any] = {}
    for name in reversed(ALL):  # an option of several subjects has the default of the first
        everything.update(SUBJECTS[name].defaults)
    described = {name: (subject.words, subject.defaults) for name, subject in SUBJECTS.items()}
    described['all'] = 'all of the above except run', everything
    for name, (words, defaults) in described.items():
        description = words[0].upper() + words[1:] + '.'
        command = commands.add_parser(name, help=words, description=description)
        _add_options(command, dict(defaults, **COMMON))
        command.add_argument(
            '--quick', action='store_true', help='trial run, whose lower bounds are not reliable'
        )
    for study in STUDIES.values():
        study.add_arguments(commands)
    return parser.parse_args()


def measure(args: argparse.Namespace, console: Console) -> None:
    """Measure the chosen subjects and write the results."""
    start = time.time()
    torch.set_num_threads(args.threads)
    peaks = measure_peaks(args.device, args.quick)
    settings = Settings(args.device, args.rounds, args.seconds, peaks, console)
    about = dict(
        command=f'python {_program()} {shlex.join(sys.argv[1:])}',
        machine=tables.machine(args.device),
    )
    show = partial(console.print, highlight=False, soft_wrap=True)
    show(
        f'{about["machine"]["cpu"]}, {args.device}, {args.threads} thread(s): peak '
        f'{peaks.flops / 1e9:.4g} GFLOP/s and {peaks.bytes / 1e9:.3g} GB/s'
    )
    comparisons = []
    for name in ALL if args.command == 'all' else [args.command]:
        subject = SUBJECTS[name]
        show(f'{name}: {subject.words} ...')
        options = {option: getattr(args, option) for option in subject.defaults}
        for comparison in subject.run(settings, **options):
            comparisons.append(comparison)
            tables.show(console, comparison)
    about['seconds'] = time.time() - start
    for path in tables.save(args.out, comparisons, peaks, about):
        show(str(path))


def main() -> None:
    args, console = parse_args(), Console()
    MMLogger.get_current_instance().setLevel('ERROR')
    if args.command in STUDIES:
        STUDIES[args.command].run(args, console)
    else:
        measure(args, console)


if __name__ == '__main__':
    cli.run(main)
