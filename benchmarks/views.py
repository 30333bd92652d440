"""Measure how the accuracy depends on the number of stored views."""

import argparse
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from prkd_mm.cli import whole_number
from prkd_mm.experiments.paired import mean_std
from prkd_mm.experiments.records import read_records
from prkd_mm.experiments.results import Row, compared_by, rows_of
from prkd_mm.experiments.table import Table

from .images import CONFIGS

VIEWS = (1, 4, 8, 16, 30)
WORDS = 'how the accuracy of a comparison depends on the number of stored views (hours)'


def add_arguments(commands: argparse._SubParsersAction) -> None:
    """Add the command ``views``."""
    description = WORDS[0].upper() + WORDS[1:] + '. The same command resumes.'
    parser = commands.add_parser('views', help=WORDS, description=description)
    parser.add_argument('config', help='a config with a choice of methods')
    parser.add_argument(
        '--views',
        type=whole_number(1),
        nargs='+',
        default=VIEWS,
        metavar='K',
        help='numbers of views, in addition to a live teacher; default: 1 4 8 16 30',
    )
    parser.add_argument('--methods', default='kd,prkd', help='default: %(default)s')
    parser.add_argument(
        '--seeds', type=whole_number(1), default=5, help='runs per method; default: %(default)s'
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('results/views'),
        metavar='FOLDER',
        help='folder for reports, records and views.png; default: %(default)s',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='as in tools/reproduce.py'
    )


def run(args: argparse.Namespace, console: Console) -> None:
    """Train at each number of views, print a table and draw it.

    Raises:
        RuntimeError: If a comparison fails.
    """
    rows: dict[str, list[Row]] = {}
    for views in (*args.views, 0):
        title = str(views) if views else 'live'
        folder = args.out / title
        command = [
            *(sys.executable, str(CONFIGS.parent / 'tools/reproduce.py'), args.config),
            *('--methods', args.methods, '--seeds', str(args.seeds), '--figures', ''),
            *('--store-views', str(views), '--records', str(folder), '--out', str(folder)),
        ]
        if args.cfg_options:
            command += ['--cfg-options', *args.cfg_options]
        if subprocess.run(command).returncode:
            raise RuntimeError(f'the comparison with {title} views failed; its messages are above')
        rows[title] = [row for row in rows_of(read_records(folder)) if row.method]
    console.print(table(rows).markdown(), highlight=False, soft_wrap=True)
    draw(rows, args.out / 'views.png')


def table(rows: dict[str, list[Row]]) -> Table:
    """Top-1 of each method by the number of views: mean and standard deviation."""
    names = [row.name for row in next(iter(rows.values()))]
    cells = [
        [title, *(mean_std(row.by_seed(compared_by(found)).values()) for row in found)]
        for title, found in rows.items()
    ]
    return Table(['views', *names], cells)


def draw(rows: dict[str, list[Row]], path: Path) -> None:
    """Draw top-1 against the number of views, with each seed as a point."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout='constrained')
    axes = figure.subplots()
    for i, first in enumerate(next(iter(rows.values()))):
        values = [list(found[i].by_seed(compared_by(found)).values()) for found in rows.values()]
        means = [sum(each) / len(each) for each in values]
        (line,) = axes.plot(list(rows), means, marker='o', label=first.name)
        for title, each in zip(rows, values):
            axes.plot([title] * len(each), each, '.', alpha=0.4, color=line.get_color())
    axes.set(xlabel='number of stored views', ylabel='top-1, %')
    axes.legend()
    figure.savefig(path, dpi=120)
