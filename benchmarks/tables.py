"""Show the results: on the screen, as JSON, as Markdown and as a bar chart."""

import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Callable, Optional

import mmengine
import mmpretrain
import mmrazor
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console

from prkd_mm.experiments.table import Table
from prkd_mm.files import write_text
from prkd_mm.version import __version__
from prkd_mm.visualization import new_figure

from .comparison import Comparison
from .lower_bounds import Peaks
from .timing import ALONE, OURS, STOCK, TUNED, Summary

_COLORS = {STOCK: 'tab:gray', TUNED: 'tab:olive', ALONE: 'tab:green', OURS: 'tab:blue'}
_OVER = {STOCK: 'x stock', TUNED: 'x tuned', ALONE: 'x alone'}


def machine(device: torch.device) -> dict:
    """Describe the machine and the software."""
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text() if cpuinfo.is_file() else ''
    model = re.search(r'^model name\s*:\s*(.+)', lines, re.M)
    return dict(
        device=torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU',
        cpu=model[1].strip() if model else platform.processor() or platform.machine(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        load=list(os.getloadavg()) if hasattr(os, 'getloadavg') else None,
        python=platform.python_version(),
        **{each.__name__: each.__version__ for each in (torch, mmengine, mmpretrain, mmrazor)},
        prkd_mm=__version__,
    )


def format_seconds(value: float) -> str:
    """Format a time in a suitable unit."""
    for unit, size in (('s', 1.0), ('ms', 1e-3), ('µs', 1e-6)):
        if abs(value) >= size:  # noise can make a small difference negative
            # no exponent for the seconds of a long run
            return f'{value / size:,.0f} {unit}' if value >= 1000 else f'{value / size:.3g} {unit}'
    return f'{value * 1e9:.3g} ns'


def format_factor(value: float) -> str:
    """Format a ratio such as a speed-up."""
    return f'{value:.2f}' if value < 100 else f'{value:,.0f}'


def _with_spread(summary: Optional[Summary], number: Callable[[float], str]) -> str:
    """Format the median, and half of the interquartile range."""
    if summary is None:
        return '–'
    half = (summary.high - summary.low) / 2 / summary.median
    return f'{number(summary.median)} ±{half:.0%}'


def times(comparison: Comparison) -> Table:
    """Tabulate the time and speed-ups of each case, and the lower bound."""
    columns = {
        '': [result.name for result in comparison.results],
        f'{comparison.clock} time/{comparison.unit}': [
            _with_spread(result.time, format_seconds) for result in comparison.results
        ],
    }
    if comparison.batch:
        speeds = [comparison.batch / result.wall.median for result in comparison.results]
        columns['images/s'] = [f'{speed:,.0f}' for speed in speeds]
    for side in comparison.opponents():
        columns[_OVER[side]] = [
            _with_spread(result.speedups.get(side), format_factor) for result in comparison.results
        ]
    if comparison.lower_bound is not None:
        bound = ['lower bound', format_seconds(comparison.lower_bound)]
        for column, cell in zip_longest(columns.values(), bound, fillvalue=''):
            column.append(cell)
    return _table(columns)


def sections(comparison: Comparison) -> Table:
    """Tabulate the sections and peak memory of each case."""
    results = comparison.results
    columns = {'': [result.name for result in results]}
    for name in max((result.sections for result in results), key=len):
        found = [result.sections.get(name) for result in results]
        columns[name] = ['–' if each is None else format_seconds(each) for each in found]
    if all(result.peak_bytes is not None for result in results):
        columns['memory'] = [f'{result.peak_bytes / 1e6:.3g} MB' for result in results]
    return _table(columns)


def _table(columns: dict[str, list[str]]) -> Table:
    return Table(list(columns), [list(row) for row in zip(*columns.values())])


def _all_tables(comparison: Comparison) -> list[Table]:
    tables = [times(comparison), sections(comparison)]
    return [table for table in tables if len(table.header) > 1]


def _notes(comparison: Comparison) -> str:
    notes = f'{comparison.rounds} rounds; {comparison.note}.'
    if comparison.lower_bound_text:
        notes += f' Lower bound: {comparison.lower_bound_text}.'
    return notes


def _targets(comparisons: Sequence[Comparison]) -> Table:
    targets = [target for comparison in comparisons for target in comparison.targets]
    words = {True: 'reached', False: '**not reached**'}
    rows = [[t.text, format_factor(t.value), t.limit, words[t.reached]] for t in targets]
    return Table(['', 'measured', 'target', ''], rows)


def show(console: Console, comparison: Comparison) -> None:
    """Print a comparison."""
    console.print(f'\n[bold]{comparison.title}[/]', highlight=False)
    for table in _all_tables(comparison):
        console.print(table.screen(box=SIMPLE_HEAD, padding=0, show_edge=False))
        console.print()
    console.print(_notes(comparison), highlight=False)
    for text, value, limit, reached in _targets([comparison]).rows:
        console.print(f'{text}: {value}, {limit}: {reached.strip("*")}', highlight=False)


def markdown(comparisons: Sequence[Comparison], about: dict) -> str:
    """Format all tables as a Markdown document; ``about`` has ``command`` and ``machine``."""
    shown = [f'{key}: {value}' for key, value in about['machine'].items() if key != 'load']
    lines = [f'`{about["command"]}`', '', f'{", ".join(shown)}.', '']
    for comparison in comparisons:
        lines += [f'### {comparison.title[0].upper()}{comparison.title[1:]}', '']
        for table in _all_tables(comparison):
            lines += [table.markdown(), '']
        lines += [_notes(comparison), '']
    targets = _targets(comparisons)
    if targets.rows:
        lines += ['### Targets', '', targets.markdown(), '']
    return '\n'.join(lines)


def save(folder: Path, comparisons: Sequence[Comparison], peaks: Peaks, about: dict) -> list[Path]:
    """Write ``benchmark.json``, ``tables.md`` and ``bars.png``, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = dict(about, peaks=asdict(peaks), comparisons=[asdict(each) for each in comparisons])
    paths = [folder / name for name in ('benchmark.json', 'tables.md', 'bars.png')]
    write_text(paths[0], json.dumps(numbers, indent=1, ensure_ascii=False))
    write_text(paths[1], markdown(comparisons, about))
    plot_bars(comparisons, paths[2])
    return paths


def plot_bars(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw the speed of each case, relative to the first of its comparison."""
    heights = [1.4 + 0.3 * len(c.results) for c in comparisons]
    figure = new_figure(8, sum(heights))
    panels = figure.subplots(len(comparisons), squeeze=False, height_ratios=heights)[:, 0]
    for axes, comparison in zip(panels, comparisons):
        first = comparison.results[0].time.median
        for i, result in enumerate(comparison.results):
            measured = result.time
            speed, low, high = first / measured.median, first / measured.high, first / measured.low
            error = [[speed - low], [high - speed]]
            axes.barh(i, speed, color=_COLORS[result.side], xerr=error)
            axes.annotate(f' {format_factor(speed)}', (high, i), va='center')
        names = [result.name for result in comparison.results]
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_title(f'{comparison.title}: speed', fontsize='medium')
        axes.set_xlabel(f'speed relative to {names[0]!r}')
        medians = [result.time.median for result in comparison.results]
        if max(medians) > 50 * min(medians):
            axes.set_xscale('log')
    figure.savefig(path, dpi=120)
