"""Analyze trained students, to find out why a method works or does not."""

import argparse
from pathlib import Path

import prkd_mm  # noqa: F401  before mmrazor, which it patches
from prkd_mm import cli
from prkd_mm.analysis import STUDIES, Study
from prkd_mm.analysis.output import Report
from prkd_mm.analysis.runs import find_runs
from prkd_mm.methods import METHODS
from prkd_mm.options import add_options


def add_run_arguments(parser: argparse.ArgumentParser, study: Study) -> None:
    """Add the arguments that select the students and the output folder."""
    parser.add_argument('config', help='the config of the students')
    parser.add_argument(
        '--methods',
        default='',
        metavar='A,B',
        help=f'comma-separated, from {", ".join(METHODS)}; default: the method of the config',
    )
    parser.add_argument(
        '--work-dirs',
        nargs='+',
        default=[],
        metavar='DIR',
        help='one work dir per method, in order; default: ./work_dirs/<config>[_<method>]',
    )
    parser.add_argument(
        '--checkpoints',
        nargs='+',
        default=[],
        metavar='FILE',
        help='epoch_N.pth, student_avg.pth or plain checkpoints of one method, instead of '
        f'those in its work dir; {study.checkpoints}',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=cli.ConfigOptions,
        metavar='KEY=VALUE',
        help='override settings of the config',
    )
    parser.add_argument(
        '--out', type=cli.output_folder, help='output folder; default: <last work dir>/analysis'
    )


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(
        description=__doc__,
        epilog='Each study prints its numbers, and writes them as JSON and CSV with figures as '
        'PNG and SVG.',
    )
    commands = parser.add_subparsers(dest='command', required=True)
    for name, study in STUDIES.items():
        words = (study.run.__doc__ or '').partition('\n')[0]
        command = commands.add_parser(name, help=words, description=words)
        add_run_arguments(command, study)
        if name == 'landscape':
            command.add_argument(
                '--trainings',
                type=int,
                default=1,
                metavar='N',
                help='number of trainings per method, with the seeds 0 to N-1 of '
                'tools/reproduce.py; for several, error bars are over the trainings; '
                'default: %(default)s',
            )
        add_options(command, study.options)
    return parser.parse_args()


def main() -> None:
    args = vars(parse_args())
    name = args.pop('command')
    runs = find_runs(
        args.pop('config'),
        [method for method in args.pop('methods').split(',') if method],
        args.pop('checkpoints'),
        args.pop('cfg_options'),
        args.pop('work_dirs'),
        args.pop('trainings', 1),
    )
    out = args.pop('out') or Path(runs[-1].cfg.work_dir, 'analysis')
    STUDIES[name].run(runs, Report(out, name), STUDIES[name].options(**args))


if __name__ == '__main__':
    cli.run(main)
