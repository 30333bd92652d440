"""Download a data set, check it, and put it into the folder that the configs use."""

import argparse

from prkd_mm import cli
from prkd_mm.datasets.prepare.prepare import SOURCES, prepare


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(
        description='Download a data set, check it, and put it into the folder '
        'that the configs use. Interrupted downloads resume, and the checksum is '
        'verified. All images are counted and read before the folder gets its '
        'final name, so an existing folder is complete. An existing folder is checked '
        'again and left unchanged.'
    )
    parser.add_argument('dataset', choices=sorted(SOURCES), help='the data set')
    parser.add_argument(
        '--source',
        nargs='+',
        default=(),
        metavar='PATH',
        help='zip or tar archives that together contain the data set, or a '
        'folder that contains it, which is copied; default: download',
    )
    parser.add_argument(
        '--root',
        default='data',
        metavar='DIR',
        help='folder of all data sets (default: %(default)s)',
    )
    parser.add_argument(
        '--name',
        metavar='NAME',
        help='name of the new folder inside --root (default: the official name, '
        f'{", ".join(s.folder for s in SOURCES.values())}; MMPretrain requires '
        'it for CIFAR)',
    )
    parser.add_argument(
        '--partial',
        action='store_true',
        help='accept an incomplete data set, and list the missing parts',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    prepare(SOURCES[args.dataset], args.source, args.root, args.name, args.partial)


if __name__ == '__main__':
    cli.run(main, 'interrupted; run the same command again')
