"""Draw training images as the student sees them, one column per epoch."""

import argparse
from pathlib import Path

import prkd_mm  # noqa: F401  before mmrazor, which it patches
from prkd_mm import cli
from prkd_mm.config import load_config
from prkd_mm.datasets.browse import draw, training_views

_MOST = 100  # rows or columns that fit on the page


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config of the run')
    parser.add_argument(
        '--number',
        type=cli.whole_number(1, _MOST),
        default=8,
        help=f'number of images, at most {_MOST}; default: %(default)s',
    )
    parser.add_argument(
        '--epochs',
        type=cli.whole_number(1, _MOST),
        default=6,
        help=f'number of epochs, at most {_MOST}; default: %(default)s',
    )
    parser.add_argument(
        '--out',
        type=cli.new_picture,
        default=Path('images.png'),
        help='output file; default: %(default)s',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    draw(training_views(load_config(args.config), args.number, args.epochs), args.out)
    print(f'{args.number} images of {args.epochs} epochs -> {args.out}')


if __name__ == '__main__':
    cli.run(main)
