"""Measure how the accuracy depends on the number of stored views."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from prkd_mm.experiments.paired import mean_std
from prkd_mm.experiments.records import read_records
from prkd_mm.experiments.results import Row, compared_by, rows_of
from prkd_mm.experiments.table import Table
from prkd_mm.visualization import new_figure

from .images import ROOT


def run(
    config: str,
    console: Console,
    views: Sequence[int] = (1, 4, 8, 16, 30),
    methods: str = 'kd,prkd',
    seeds: int = 5,
    out: Path = Path('results/views'),
    overrides: Sequence[str] = (),
) -> None:
    """How the accuracy of a comparison depends on the number of stored views (hours).

    The same command resumes. A table is printed and drawn in ``out``, next to the reports.

    Raises:
        RuntimeError: If a comparison fails.
    """
    rows: dict[str, list[Row]] = {}
    for number in (*views, 0):
        title = str(number) if number else 'live'
        records = out / title / 'records'
        command = [
            *(sys.executable, str(ROOT / 'tools/reproduce.py'), config),
            *('--methods', methods, '--seeds', str(seeds), '--figures', ''),
            *('--store-views', str(number), '--records', str(records), '--out', str(out / title)),
            *(['--cfg-options', *overrides] if overrides else []),
        ]
        if subprocess.run(command).returncode:
            raise RuntimeError(f'the comparison with {title} views failed; its messages are above')
        rows[title] = [row for row in rows_of(read_records(records)) if row.method]
    console.print(table(rows).markdown(), highlight=False, soft_wrap=True)
    draw(rows, out / 'views.png')


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
    figure = new_figure(6, 4)
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
