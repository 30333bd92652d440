"""Average the last checkpoints of a run, and estimate the batch-norm statistics again."""

import argparse
from pathlib import Path

import prkd_mm  # noqa: F401  before mmrazor, which it patches
from prkd_mm import cli
from prkd_mm.averaging import BN_MODES
from prkd_mm.checkpoints import write_atomically
from prkd_mm.config import load_config
from prkd_mm.deploy.average import average_checkpoints, last_checkpoints


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config of the run, of any MMEngine project')
    parser.add_argument(
        'checkpoints',
        nargs='+',
        type=Path,
        help='checkpoints of the run, oldest first, or its work dir',
    )
    parser.add_argument(
        '--last',
        type=cli.whole_number(1),
        default=10,
        help='number of checkpoints to take from a work dir; default: %(default)s',
    )
    parser.add_argument(
        '--bn',
        choices=BN_MODES,
        default='recalibrate',
        help='batch-norm statistics: estimated from training batches, the mean of the '
        'checkpoints, or those of the latest one; default: %(default)s',
    )
    parser.add_argument(
        '--out',
        type=cli.new_file,
        help='output file; default: averaged.pth next to the checkpoints',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    paths = args.checkpoints
    if len(paths) == 1 and paths[0].is_dir():
        paths = last_checkpoints(paths[0], args.last)
    out = args.out or paths[-1].with_name('averaged.pth')
    write_atomically(average_checkpoints(load_config(args.config), paths, args.bn), str(out))
    print(f'mean of {", ".join(path.name for path in paths)} -> {out}')


if __name__ == '__main__':
    cli.run(main)
