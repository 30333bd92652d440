"""Measure what distillation costs here, and with MMRazor and MMPretrain as shipped."""

import argparse
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from typing import Callable

import prkd_mm  # noqa: F401  isort: skip  # patches what mmrazor imports
import torch
from mmengine.logging import MMLogger
from rich.console import Console

from prkd_mm import cli

from . import feed, hooks, loss, step, tables, whole_run
from .comparison import Comparison, Settings
from .lower_bounds import Peaks, measure_peaks

SUBJECTS = dict(
    feed='data loading, from the data set to the normalized batch on the device',
    step='a training step without data loading, and its sections',
    loss="the loss, forward and backward, next to MMRazor's",
    average='averaging the weights',
    logging="an iteration's scalars, early and late in a run",
    run='whole training runs, as processes (several minutes)',
    all='all of these except run',
)
EPILOG = (
    'All cases are first checked to compute the same thing. They are then timed '
    'alternately in one process: A B B A. On a CPU, the times are CPU times. (The former '
    'subject `scaling` was removed; its formulas are in docs/performance.md.)'
)


def _shape(text: str) -> tuple[int, int]:
    samples, _, classes = text.partition('x')
    return int(samples), int(classes)


def _program() -> str:
    if Path(sys.argv[0]).name == '__main__.py':
        return '-m benchmarks'
    return sys.argv[0]


def _add_common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        '--rounds',
        type=int,
        default=7,
        help='maximum number of rounds; every case runs once per round; default: %(default)s',
    )
    add(
        '--seconds',
        type=float,
        default=45.0,
        metavar='S',
        help='start no new round of a comparison after this number of seconds, but run at '
        'least three; default: %(default)s',
    )
    add('--threads', type=int, default=1, help='CPU threads of PyTorch; default: %(default)s')
    add('--device', type=torch.device, default='cpu', help='cpu or cuda; default: %(default)s')
    add(
        '--out',
        type=Path,
        default=Path('results/benchmark'),
        metavar='FOLDER',
        help='folder for the results; default: %(default)s',
    )
    add('--quick', action='store_true', help='trial run, whose lower bounds are not reliable')


def _add_options(parser: argparse.ArgumentParser, subject: str) -> None:
    add = parser.add_argument
    if subject in ('feed', 'step', 'all'):
        add('--batch', type=int, default=64, help='images per batch; default: %(default)s')
    if subject in ('feed', 'run', 'all'):
        add('--images', type=int, default=1024, help='images per epoch; default: %(default)s')
    if subject in ('step', 'all'):
        add(
            '--pair',
            dest='pairs',
            nargs='+',
            default=step.PAIRS,
            metavar='NAME',
            help=f'configs in configs/prkd; default: {" ".join(step.PAIRS)}',
        )
        add('--size', type=int, default=32, help='image height and width; default: %(default)s')
    if subject in ('loss', 'all'):
        shapes = ' '.join(f'{n}x{c}' for n, c in loss.SHAPES)
        add(
            '--shapes',
            type=_shape,
            nargs='+',
            default=loss.SHAPES,
            metavar='NxC',
            help=f'numbers of samples and classes; default: {shapes}',
        )
    if subject in ('average', 'run'):
        default = step.PAIRS[0] if subject == 'average' else whole_run.PAIR
        add(
            '--pair',
            dest='pairs',
            nargs=1,
            default=[default],
            metavar='NAME',
            help=f'a config in configs/prkd; default: {default}',
        )
    if subject in ('logging', 'all'):
        lengths = ' '.join(map(str, hooks.ITERATIONS))
        add(
            '--iterations',
            type=int,
            nargs='+',
            default=hooks.ITERATIONS,
            metavar='N',
            help=f'lengths of the run, ascending; default: {lengths}',
        )


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(Path(_program()).name, description=__doc__, epilog=EPILOG)
    commands = parser.add_subparsers(dest='command', required=True)
    for subject, words in SUBJECTS.items():
        description = words[0].upper() + words[1:] + '.'
        command = commands.add_parser(subject, help=words, description=description)
        _add_common(command)
        _add_options(command, subject)
    return parser.parse_args()


def choose(
    args: argparse.Namespace, settings: Settings, peaks: Peaks
) -> dict[str, Callable[[], list[Comparison]]]:
    """Return a function for each chosen subject, by name."""
    options = dict(vars(args), pair=vars(args).get('pairs', [''])[0])

    def run(function: Callable, *names: str) -> Callable:
        return partial(function, settings, peaks, *(options.get(name) for name in names))

    runs = dict(
        feed=run(feed.run, 'images', 'batch'),
        step=run(step.run, 'pairs', 'batch', 'size'),
        loss=run(loss.run, 'shapes'),
        average=run(hooks.run_average, 'pair'),
        logging=run(hooks.run_logging, 'iterations'),
    )
    if args.command == 'all':
        return runs
    runs['run'] = run(whole_run.run, 'pair', 'images')
    return {args.command: runs[args.command]}


def main() -> None:
    args, start, console = parse_args(), time.time(), Console()
    torch.set_num_threads(args.threads)
    MMLogger.get_current_instance().setLevel('ERROR')
    settings = Settings(args.device, args.rounds, args.seconds, console)
    command = f'python {_program()} {shlex.join(sys.argv[1:])}'
    about = dict(command=command, machine=tables.machine(args.device))
    peaks = measure_peaks(args.device, args.quick)
    console.print(
        f'{about["machine"]["cpu"]}, {args.device}, {args.threads} thread(s): peak '
        f'{peaks.flops / 1e9:.4g} GFLOP/s and {peaks.bytes / 1e9:.3g} GB/s',
        highlight=False,
    )
    comparisons = []
    for subject, run in choose(args, settings, peaks).items():
        console.print(f'{subject}: {SUBJECTS[subject]} ...', highlight=False)
        for comparison in run():
            comparisons.append(comparison)
            tables.show(console, comparison)
    about['seconds'] = time.time() - start
    for path in tables.save(args.out, comparisons, peaks, about):
        console.print(str(path), highlight=False, soft_wrap=True)


if __name__ == '__main__':
    cli.run(main)
