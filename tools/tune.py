"""Choose the temperatures and weights of methods on held-out training images.

Every method gets the same number of trials and of seeds. The test images are
not looked at.
"""

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console

import prkd_mm  # noqa: F401  before mmrazor, which it patches
from prkd_mm import cli
from prkd_mm.experiments import METHODS
from prkd_mm.experiments.tune.tuning import Tuning


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='a config with methods')
    parser.add_argument(
        '--methods',
        default='kd,dist,prkd',
        help=f'comma-separated, of {",".join(METHODS)} but ce; default: %(default)s',
    )
    numbers = dict(
        trials=(8, 'settings of each method; the first is what its config says'),
        finalists=(2, 'how many of them, besides the first, get all seeds'),
        seeds=(3, 'runs of each of these, with the seeds 0 to N-1; the others have seed 0'),
        held_out=(5, 'every N-th training image of a class is held out'),
        tail=(15, 'try to average up to that many last epochs; every run keeps their checkpoints'),
        jobs=(1, 'runs side by side, as in tools/reproduce.py'),
    )
    for name, (default, words) in numbers.items():
        parser.add_argument(
            f'--{name.replace("_", "-")}',
            type=int,
            default=default,
            metavar='N',
            help=f'{words}; default: %(default)s',
        )
    parser.add_argument(
        '--views',
        type=int,
        metavar='K',
        help="train from the teacher's stored logits of K views of each image "
        '(as many as epochs: nothing is seen twice); default: the live '
        'teacher',
    )
    parser.add_argument(
        '--out', type=Path, help='where the report goes; default: results/tune_<config>'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help="override settings in the students' runs",
    )
    parser.add_argument(
        '--teacher-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help="override settings in the teacher's run",
    )
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision (GPU)')
    args = parser.parse_args()
    args.methods = args.methods.split(',')
    if unknown := [name for name in args.methods if name not in METHODS or name == 'ce']:
        parser.error(
            f'nothing to tune in {unknown}; choose of {[name for name in METHODS if name != "ce"]}'
        )
    for name in numbers:
        least = 2 if name == 'held_out' else 1
        if getattr(args, name) < least:
            parser.error(f'--{name.replace("_", "-")} must be at least {least}')
    args.out = args.out or Path('results') / f'tune_{Path(args.config).stem}'
    return args


def main() -> None:
    args = vars(parse_args())
    command = shlex.join(['python', 'tools/tune.py'] + sys.argv[1:])
    out = args['out']
    tuning = Tuning(**args, train_py=str(Path(__file__).with_name('train.py')), console=Console())
    tuning.run()
    tuning.write(command)
    print(f'Report: {out / "tuning.md"}')


if __name__ == '__main__':
    cli.run(main, 'interrupted; the same command goes on from here')
