"""Look at trained students: why a method does what it does."""

import argparse
from pathlib import Path

import prkd_mm  # noqa: F401  before mmrazor, which it patches
from prkd_mm import cli
from prkd_mm.analysis import STUDIES
from prkd_mm.analysis.device import choose_device
from prkd_mm.analysis.output import Report
from prkd_mm.analysis.runs import find_runs
from prkd_mm.experiments import METHODS

WHAT = dict(
    strength='how hard each loss ties the student to the teacher, and how that changes over a run',
    landscape='the loss round the students: curves, surfaces, the plane of the tail, sharpness',
    spread='how far the last checkpoints are apart, and what averaging them gives',
    compare='what the students took over from the teacher: agreement, calibration, classes',
)


def _floats(text: str) -> list[float]:
    return [float(part) for part in text.split(',')]


def add_common(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument('config', help='the config of the students')
    parser.add_argument(
        '--methods',
        default='',
        metavar='A,B',
        help=f"comma-separated, of {','.join(METHODS)}; each one's work dir "
        "is looked at; default: the config's own",
    )
    parser.add_argument(
        '--work-dirs',
        nargs='+',
        default=[],
        metavar='DIR',
        help='of the methods, in their order; default: ./work_dirs/<config>[_<method>]',
    )
    parser.add_argument(
        '--checkpoints',
        nargs='+',
        default=[],
        metavar='FILE',
        help='instead of what the work dir of the one method holds: '
        'epoch_N.pth, student_avg.pth or any plain checkpoint. Of several, '
        + dict(
            strength='the last',
            landscape='the last is the student and three span the plane',
            spread='all are the tail',
            compare='each is a student',
        )[name],
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=cli.ConfigOptions,
        metavar='KEY=VALUE',
        help='override settings of the config',
    )
    parser.add_argument('--out', help='where to write; default: <last work dir>/analysis')
    parser.add_argument(
        '--samples',
        type=int,
        default=dict(strength=512, landscape=128).get(name),
        help='images, drawn by --seed; default: '
        + dict(strength='512', landscape='128').get(name, 'all'),
    )
    parser.add_argument(
        '--batch-size', type=int, help='images at a time; default: that of validation'
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--device', help="default: 'cuda' if there is one, else 'cpu'")


def add_own(parser: argparse.ArgumentParser, name: str) -> None:
    if name != 'landscape':
        parser.add_argument(
            '--split',
            choices=['train', 'val'],
            default='train' if name == 'strength' else 'val',
            help='whose images, never augmented; default: %(default)s',
        )
    if name != 'spread':
        parser.add_argument(
            '--weights',
            choices=['latest', 'average'],
            default='average' if name == 'compare' else 'latest',
            help='the raw student or student_avg.pth; default: %(default)s',
        )
    if name == 'strength':
        parser.add_argument(
            '--taus',
            type=_floats,
            default=[8.0, 4.0, 2.0, 1.0],
            metavar='T,T',
            help='temperatures of KL; default: 8,4,2,1',
        )
        parser.add_argument(
            '--tau-cor',
            type=float,
            default=4.0,
            help='temperature of the correlation; default: %(default)s',
        )
    elif name == 'landscape':
        for option, kind, default, words in (
            (
                '--trainings',
                int,
                1,
                'of each method, with the seeds 0 to N-1 '
                'of tools/reproduce.py; the error bars are then over these',
            ),
            ('--seeds', int, 3, 'draws of images and directions for each training, from --seed on'),
            ('--span', float, 1.0, 'how far the curves go, in the norms of the filters'),
            ('--grid', int, 9, 'points along each axis of a surface'),
            ('--radius', float, 0.005, 'of the worst loss, in the norms of the filters'),
            ('--probes', int, 10, 'random vectors for a trace'),
            (
                '--bn-batches',
                int,
                5,
                "training batches for the batch-norm statistics of each point of the tail's plane",
            ),
        ):
            parser.add_argument(
                option, type=kind, default=default, help=f'{words}; default: %(default)s'
            )
    elif name == 'spread':
        parser.add_argument(
            '--tail',
            type=int,
            metavar='N',
            help='look at that many last epochs; default: as many as the run averages',
        )
        parser.add_argument(
            '--bn-batches',
            type=int,
            default=100,
            help="training batches for the averages' batch-norm statistics; default: %(default)s",
        )
    else:
        parser.add_argument(
            '--bins', type=int, default=15, help='of the confidence; default: %(default)s'
        )


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(
        description=__doc__,
        epilog='Each prints its numbers and writes them as JSON and CSV beside a PNG and an SVG.',
    )
    commands = parser.add_subparsers(dest='command', required=True)
    for name, words in WHAT.items():
        command = commands.add_parser(name, help=words, description=words)
        add_common(command, name)
        add_own(command, name)
    return parser.parse_args()


def main() -> None:
    args = vars(parse_args())
    name = args.pop('command')
    methods = [method for method in args.pop('methods').split(',') if method]
    runs = find_runs(
        args.pop('config'),
        methods,
        args.pop('checkpoints'),
        args.pop('cfg_options'),
        args.pop('work_dirs'),
        args.pop('trainings', 1),
    )
    out = args.pop('out') or Path(runs[-1].cfg.work_dir, 'analysis')
    args['device'] = choose_device(args['device'])
    STUDIES[name](runs, Report(out, name), **args)


if __name__ == '__main__':
    cli.run(main)
