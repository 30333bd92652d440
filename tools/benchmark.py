"""What distillation costs here, and with MMRazor and MMPretrain as shipped."""

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import Any, Callable

import torch
from mmengine.logging import MMLogger
from rich.console import Console

import prkd_mm  # noqa: F401  before mmrazor, which it mends

# the benchmarks are no part of the installed package
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import average, feed, logging, loss, scaling, step, tables  # noqa: E402
from benchmarks.comparison import Comparison, Settings  # noqa: E402
from benchmarks.floors import measure_peaks  # noqa: E402

WHAT = dict(
    feed='from the data set to the normalised batch on the device',
    step='a training step, data loading left out, and its parts',
    loss="the loss, forward and backward, beside MMRazor's",
    average='averaging the weights',
    logging="an iteration's scalars, early and late in a run",
    scaling='how cost grows with classes, batch, images, epochs, ranks',
    all='all of these',
)


def _shape(text: str) -> tuple[int, int]:
    samples, _, classes = text.partition('x')
    return int(samples), int(classes)


def add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--rounds',
        type=int,
        default=7,
        help='in each of which all cases take a turn; default: %(default)s',
    )
    parser.add_argument(
        '--seconds',
        type=float,
        default=45.0,
        metavar='S',
        help='begin no further round of a comparison after so many seconds, '
        'but do three; default: %(default)s',
    )
    parser.add_argument(
        '--threads', type=int, default=1, help='of PyTorch on the CPU; default: %(default)s'
    )
    parser.add_argument(
        '--device', type=torch.device, default='cpu', help='cpu or cuda; default: %(default)s'
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('results/benchmark'),
        metavar='FOLDER',
        help='default: %(default)s',
    )
    parser.add_argument(
        '--quick', action='store_true', help='trial: no good peaks, few points of the scaling'
    )


def add_own(parser: argparse.ArgumentParser, name: str) -> None:
    every = name == 'all'
    if name in ('feed', 'step') or every:
        parser.add_argument(
            '--batch', type=int, default=64, help='images in a batch; default: %(default)s'
        )
    if name == 'feed' or every:
        parser.add_argument(
            '--images', type=int, default=1024, help='to feed in a round; default: %(default)s'
        )
    if name == 'step' or every:
        parser.add_argument(
            '--pair',
            dest='pairs',
            nargs='+',
            default=step.PAIRS,
            metavar='NAME',
            help=f'of configs in configs/prkd; default: {" ".join(step.PAIRS)}',
        )
        parser.add_argument(
            '--size',
            type=int,
            default=32,
            help='height and width of the images; default: %(default)s',
        )
    if name == 'loss' or every:
        parser.add_argument(
            '--shapes',
            type=_shape,
            nargs='+',
            default=loss.SHAPES,
            metavar='NxC',
            help='samples and classes; default: 256x1000 1024x21841',
        )
    if name == 'average':
        parser.add_argument(
            '--pair', default=step.PAIRS[0], metavar='NAME', help='default: %(default)s'
        )
    if name == 'logging' or every:
        parser.add_argument(
            '--iterations',
            type=int,
            nargs='+',
            default=logging.ITERATIONS,
            metavar='N',
            help=f'of the run until then; default: {" ".join(map(str, logging.ITERATIONS))}',
        )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='All cases take turns in one process: A B B A. They are first '
        'checked to compute the same. Times on a CPU are CPU times.',
    )
    commands = parser.add_subparsers(dest='command', required=True)
    for name, words in WHAT.items():
        command = commands.add_parser(
            name, help=words, description=words[0].upper() + words[1:] + '.'
        )
        add_common(command)
        add_own(command, name)
    return parser.parse_args()


def subjects(
    args: argparse.Namespace, settings: Settings, peaks: Any
) -> dict[str, Callable[[], list[Comparison]]]:
    """What is to be run, by name."""
    pair = vars(args).get('pair', step.PAIRS[0])
    if args.command == 'all':
        pair = args.pairs[0]
    every = dict(
        feed=lambda: feed.run(settings, peaks, args.images, args.batch),
        step=lambda: step.run(settings, peaks, args.pairs, args.batch, args.size),
        loss=lambda: loss.run(settings, peaks, args.shapes),
        average=lambda: average.run(settings, peaks, pair),
        logging=lambda: logging.run(settings, peaks, args.iterations),
    )
    return {name: function for name, function in every.items() if args.command in (name, 'all')}


def main() -> None:
    args, start, console = parse_args(), time.time(), Console()
    torch.set_num_threads(args.threads)
    MMLogger.get_current_instance().setLevel('ERROR')
    try:
        settings = Settings(args.device, args.rounds, args.seconds, console)
        about = dict(command=shlex.join(['python', *sys.argv]), machine=tables.machine(args.device))
        peaks = measure_peaks(args.device, args.quick)
        console.print(
            f'{about["machine"]["cpu"]}, {args.device}, {args.threads} '
            f'thread(s): at most {peaks.flops / 1e9:.4g} GFLOP/s and '
            f'{peaks.bytes / 1e9:.3g} GB/s',
            highlight=False,
        )
        comparisons = []
        for name, run in subjects(args, settings, peaks).items():
            console.print(f'{name}: {WHAT[name]} ...', highlight=False)
            for comparison in run():
                comparisons.append(comparison)
                tables.show(console, comparison)
        curves = []
        if args.command in ('scaling', 'all'):
            curves = scaling.run(settings, args.quick)
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('interrupted')
    about['seconds'] = time.time() - start
    for path in tables.save(args.out, comparisons, curves, peaks, about):
        console.print(str(path), highlight=False, soft_wrap=True)


if __name__ == '__main__':
    main()
