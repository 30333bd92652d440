"""Train a config's teacher and its student by several methods; compare.

What was finished before is not trained again, what was cut off goes on.
Writes results.json, results.md, figures and report.html.
"""

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console

import prkd_mm  # noqa: F401  before mmrazor, which it patches
from prkd_mm import cli
from prkd_mm.analysis import STUDIES
from prkd_mm.experiments import METHODS, plan, run_all, table, write_report
from prkd_mm.experiments.analyses import analyze


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='a config with methods, or any other')
    parser.add_argument(
        '--methods',
        default='ce,kd,prkd',
        help=f'comma-separated, of {",".join(METHODS)}; default: %(default)s',
    )
    parser.add_argument(
        '--seeds',
        type=int,
        default=1,
        metavar='N',
        help='runs of each method, with the seeds 0 to N-1, for mean and '
        'standard deviation; default: %(default)s',
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=1,
        metavar='N',
        help='runs side by side: on a CPU they share its cores, else they '
        'take turns at the GPUs; default: %(default)s',
    )
    parser.add_argument(
        '--figures',
        default=','.join(STUDIES),
        help='comma-separated analyses (tools/analyze.py) for the report: '
        "landscapes of all seeds, the others of seed 0; '' for none; default: "
        '%(default)s',
    )
    parser.add_argument(
        '--out', type=Path, help='where the report goes; default: results/<name of the config>'
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
    if unknown := [name for name in args.methods if name not in METHODS]:
        parser.error(f'unknown methods {unknown}; choose of {list(METHODS)}')
    args.figures = [name for name in args.figures.split(',') if name]
    if unknown := [name for name in args.figures if name not in STUDIES]:
        parser.error(f'unknown figures {unknown}; choose of {list(STUDIES)}')
    for name in ('seeds', 'jobs'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1')
    args.out = args.out or Path('results') / Path(args.config).stem
    return args


def main() -> None:
    args = parse_args()
    console = Console()
    command = shlex.join(['python', 'tools/reproduce.py'] + sys.argv[1:])
    jobs = plan(
        args.config, args.methods, args.cfg_options, args.teacher_options, args.seeds, args.amp
    )
    run_all(jobs, str(Path(__file__).with_name('train.py')), console, args.jobs)
    rows = write_report(jobs, args.out, command)  # in case figures fail
    console.print(table(rows))
    if args.figures:
        figures = analyze(jobs, args.figures, args.out, console)
        write_report(jobs, args.out, command, figures)
    console.print(f'Report: {args.out / "report.html"}', highlight=False, soft_wrap=True)
    first = next(job for job in jobs if job.method == jobs[-1].method)
    student = first.work_dir / 'student_avg.pth'
    if student.exists():
        console.print(f'The student to use: {student}', highlight=False, soft_wrap=True)


if __name__ == '__main__':
    cli.run(main, 'interrupted; the same command goes on from here')
