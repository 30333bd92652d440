"""Train a config's teacher and its student under several methods; compare.

What was finished before is not trained again, what was cut off goes on.
"""
import argparse
import sys
from pathlib import Path

import prkd_mm  # noqa: F401  before mmrazor, which it mends
from rich.console import Console

from prkd_mm.experiments import METHODS, TrainingFailed, compare, plan


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='a config with methods, or any other')
    parser.add_argument(
        '--methods',
        default='ce,kd,prkd',
        help='comma-separated, the one to average last; of '
        f'{",".join(METHODS)}; default: %(default)s')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help="override settings in the students' runs")
    parser.add_argument(
        '--teacher-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help="override settings in the teacher's run")
    parser.add_argument(
        '--amp', action='store_true', help='automatic mixed precision (GPU)')
    args = parser.parse_args()
    args.methods = args.methods.split(',')
    if unknown := [name for name in args.methods if name not in METHODS]:
        parser.error(f'unknown methods {unknown}; choose of {list(METHODS)}')
    return args


def main() -> None:
    args = parse_args()
    console = Console()
    try:
        jobs = plan(args.config, args.methods, args.cfg_options,
                    args.teacher_options, args.amp)
        compare(jobs, str(Path(__file__).with_name('train.py')), console)
    except (TrainingFailed, FileNotFoundError) as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('interrupted; the same command goes on from here')


if __name__ == '__main__':
    main()
