"""Fetch a data set and put it where the configs look for it."""

import argparse

from prkd_mm import cli
from prkd_mm.datasets.prepare.prepare import SOURCES, prepare


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(
        description='Fetch a data set and put it where the configs look for '
        'it. Without --source it is downloaded (a download that was cut off '
        'goes on where it stopped) and its checksum verified. In any case the '
        'files are counted and read before the folder gets its name, so a '
        'folder that is there is complete. A complete folder is left as it '
        'is, and verified again.'
    )
    parser.add_argument('dataset', choices=sorted(SOURCES), help='the data set')
    parser.add_argument(
        '--source',
        nargs='+',
        default=(),
        metavar='PATH',
        help='zip or tar archives that together make the data set, or a '
        'folder with it, which is copied',
    )
    parser.add_argument(
        '--root',
        default='data',
        metavar='DIR',
        help='the folder that holds all data sets (default: %(default)s)',
    )
    parser.add_argument(
        '--name',
        metavar='NAME',
        help='the folder to make in it (default: the official name, '
        f'{", ".join(s.folder for s in SOURCES.values())}; MMPretrain finds '
        'CIFAR under no other)',
    )
    parser.add_argument(
        '--partial',
        action='store_true',
        help='accept fewer classes and images than the official set has, and say what is missing',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    prepare(SOURCES[args.dataset], args.source, args.root, args.name, args.partial)


if __name__ == '__main__':
    cli.run(main, 'interrupted; run the same command again')
