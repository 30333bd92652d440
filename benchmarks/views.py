"""Measure how the accuracy depends on the number of stored views."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from prkd_mm.experiments.records import read_records
from prkd_mm.experiments.results import Row, compare, compared_by, rows_of
from prkd_mm.experiments.table import Table
from prkd_mm.stats.estimates import mean_and_standard_error
from prkd_mm.stats.paired import mean_std
from prkd_mm.visualization import finish, method_styles, new_figure

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
    """Top-1 of each method by the number of views, and the difference from a live teacher.

    Means and standard deviations over the seeds; the differences are paired by seed, with their
    95 % confidence intervals.
    """
    live = rows['live']
    header = [cell for row in live for cell in (f'{row.name}, %', f'{row.name} − live, 95 %')]
    cells = [
        [title, *(cell for row, base in zip(found, live) for cell in _cells(row, base, title))]
        for title, found in rows.items()
    ]
    return Table(['views', *header], cells)


def _cells(row: Row, live: Row, title: str) -> tuple[str, str]:
    by = compared_by([row, live])
    top1 = mean_std(row.by_seed(by).values())
    paired = compare(row, live, by)
    if title == 'live' or paired is None:
        return top1, '–'
    if paired.interval is None:
        return top1, f'{paired.mean:+.2f}'
    return top1, '{:+.2f} ({:+.2f} to {:+.2f})'.format(paired.mean, *paired.interval)


def draw(rows: dict[str, list[Row]], path: Path) -> None:
    """Draw top-1 against the number of views, with the standard error over the seeds."""
    figure = new_figure(6, 4)
    axes = figure.subplots()
    names = [row.name for row in rows['live']]
    for i, (name, style) in enumerate(method_styles(names).items()):
        values = [found[i].by_seed(compared_by(found)).values() for found in rows.values()]
        means, errors = zip(*(mean_and_standard_error(list(each)) for each in values))
        axes.errorbar(
            range(len(rows)),
            means,
            yerr=errors,
            marker='o',
            capsize=3,
            color=style.color,
            linestyle=style.dash,
            label=name,
        )
    axes.set_xticks(range(len(rows)), list(rows))
    finish(axes, 'number of stored views', 'top-1, %')
    figure.savefig(path, dpi=120)
