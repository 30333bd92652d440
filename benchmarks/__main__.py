"""Measure what distillation costs here, and with MMRazor and MMPretrain as shipped."""

import argparse
import inspect
import re
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable

import prkd_mm  # noqa: F401  isort: skip  # patches what mmrazor imports
import torch
from mmengine.logging import MMLogger
from rich.console import Console

from prkd_mm import cli

from . import feed, hooks, loss, step, tables, topk, views, whole_run
from .comparison import Settings
from .lower_bounds import measure_peaks

EPILOG = (
    'All cases are first checked to compute the same thing. They are then timed '
    'alternately in one process: A B B A. On a CPU, the times are CPU times.'
)
# What each command runs. The defaults of its options are those of the function's arguments.
SUBJECTS: dict[str, Callable] = dict(
    feed=feed.run,
    step=step.run,
    loss=loss.run,
    average=hooks.run_average,
    logging=hooks.run_logging,
    run=whole_run.run,
)
ALL = [name for name in SUBJECTS if name != 'run']
STUDIES = dict(topk=topk.run, views=views.run)  # they measure accuracy, not cost


def _shape(text: str) -> tuple[int, int]:
    match = re.fullmatch(r'([1-9]\d*)x([1-9]\d*)', text)
    if not match:
        raise argparse.ArgumentTypeError(f'must be two numbers, such as 64x100; got {text!r}')
    return int(match[1]), int(match[2])


_COUNT = cli.whole_number(1)
OPTIONS = dict(
    images=dict(type=_COUNT, help='number of training images'),
    batch=dict(type=_COUNT, help='images per batch'),
    pairs=dict(nargs='+', metavar='NAME', help='configs in configs/prkd'),
    size=dict(type=_COUNT, help='image height and width'),
    shapes=dict(type=_shape, nargs='+', metavar='NxC', help='numbers of samples and classes'),
    iterations=dict(type=_COUNT, nargs='+', metavar='N', help='lengths of the run, ascending'),
    rounds=dict(type=_COUNT, help='maximum number of rounds; every case runs once per round'),
    seconds=dict(
        type=float,
        metavar='S',
        help='start no new round of a comparison after this number of seconds, but run at '
        'least three',
    ),
    threads=dict(type=_COUNT, help='CPU threads of PyTorch'),
    device=dict(type=torch.device, help='cpu or cuda'),
    out=dict(type=Path, metavar='FOLDER', help='folder for the results'),
    views=dict(type=_COUNT, nargs='+', metavar='K', help='stored views, besides a live teacher'),
    methods=dict(help='methods, separated by commas'),
    seeds=dict(type=_COUNT, help='runs per method'),
    cfg_options=dict(
        nargs='+', action=cli.ConfigOptions, metavar='KEY=VALUE', help='override the config'
    ),
    overrides=dict(nargs='+', metavar='KEY=VALUE', help='override the config of each run'),
)
FLAGS = dict(pairs='--pair', cfg_options='--cfg-options', overrides='--cfg-options')
COMMON = dict(rounds=7, seconds=45.0, threads=1, device='cpu')


def _defaults(run: Callable) -> dict[str, Any]:
    arguments = inspect.signature(run).parameters.values()
    return {each.name: each.default for each in arguments if each.default is not each.empty}


def _words(run: Callable) -> str:
    line = inspect.getdoc(run).splitlines()[0]
    return line[0].lower() + line[1:].rstrip('.')


def _add_command(commands, name: str, words: str, defaults: dict) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=words, description=f'{words[0].upper()}{words[1:]}.')
    for option, default in defaults.items():
        values = default if isinstance(default, tuple) else (default,)
        shown = ' '.join('x'.join(map(str, v)) if isinstance(v, tuple) else str(v) for v in values)
        arguments = dict(OPTIONS[option], default=default, dest=option)
        if default:
            arguments['help'] += f'; default: {shown}'
        command.add_argument(FLAGS.get(option, f'--{option}'), **arguments)
    return command


def _program() -> str:
    return '-m benchmarks' if Path(sys.argv[0]).name == '__main__.py' else sys.argv[0]


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(Path(_program()).name, description=__doc__, epilog=EPILOG)
    commands = parser.add_subparsers(dest='command', required=True)
    everything: dict[str, Any] = {}
    for name in reversed(ALL):  # an option of several subjects has the default of the first
        everything.update(_defaults(SUBJECTS[name]))
    described = {name: (_words(run), _defaults(run)) for name, run in SUBJECTS.items()}
    described['all'] = 'all of the above except run', everything
    for name, (words, defaults) in described.items():
        out = Path('results/benchmark', name)
        command = _add_command(commands, name, words, dict(defaults, **COMMON, out=out))
        command.add_argument(
            '--quick', action='store_true', help='trial run, whose lower bounds are not reliable'
        )
    for name, run in STUDIES.items():
        command = _add_command(commands, name, _words(run), _defaults(run))
        command.add_argument('config', help='a config of a pair, whose teacher is trained')
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
        run = SUBJECTS[name]
        show(f'{name}: {_words(run)} ...')
        options = {option: getattr(args, option) for option in _defaults(run)}
        for comparison in run(settings, **options):
            comparisons.append(comparison)
            tables.show(console, comparison)
    about['seconds'] = time.time() - start
    for path in tables.save(args.out, comparisons, peaks, about):
        show(str(path))


def main() -> None:
    args, console = parse_args(), Console()
    MMLogger.get_current_instance().setLevel('ERROR')
    if args.command in STUDIES:
        run = STUDIES[args.command]
        run(args.config, console, **{option: getattr(args, option) for option in _defaults(run)})
    else:
        measure(args, console)


if __name__ == '__main__':
    cli.run(main)
