"""Show the results: on the screen, as JSON, as Markdown and as a bar chart."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Callable, Optional

import mmengine
import mmpretrain
import mmrazor
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console

from prkd_mm.experiments.table import Table
from prkd_mm.version import __version__

from .comparison import Comparison, Result
from .lower_bounds import Peaks
from .timing import ALONE, OURS, STOCK, TUNED, Summary

_COLORS = {STOCK: 'tab:gray', TUNED: 'tab:olive', ALONE: 'tab:green', OURS: 'tab:blue'}
_OVER = {STOCK: 'x stock', TUNED: 'x tuned', ALONE: 'x alone'}


def machine(device: torch.device) -> dict:
    """Describe the machine and the software."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        models = [line.partition(':')[2] for line in lines if line.startswith('model name')]
        name = models[0].strip() if models else name
    return dict(
        device=(torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'),
        cpu=name,
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        load=list(os.getloadavg()) if hasattr(os, 'getloadavg') else None,
        python=platform.python_version(),
        torch=torch.__version__,
        mmengine=mmengine.__version__,
        mmpretrain=mmpretrain.__version__,
        mmrazor=mmrazor.__version__,
        prkd_mm=__version__,
    )


def format_seconds(value: float) -> str:
    """Format a time in a suitable unit."""
    for unit, size in (('s', 1.0), ('ms', 1e-3), ('µs', 1e-6)):
        if value >= size:
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


def _table(results: Sequence[Result], columns: dict[str, Callable[[Result], str]]) -> Table:
    """Build a table with one row per result."""
    rows = [[cell(result) for cell in columns.values()] for result in results]
    return Table(list(columns), rows)


def times(comparison: Comparison) -> Table:
    """Tabulate the time and speed-ups of each case, and the lower bound."""
    columns: dict[str, Callable[[Result], str]] = {
        '': lambda result: result.name,
        f'{comparison.clock} time/{comparison.unit}': (
            lambda result: _with_spread(result.time, format_seconds)
        ),
    }
    if comparison.batch:
        columns['images/s'] = lambda result: f'{comparison.batch / result.wall.median:,.0f}'
    for side in comparison.opponents():
        columns[_OVER[side]] = lambda result, side=side: _with_spread(
            result.speedups.get(side), format_factor
        )
    table = _table(comparison.results, columns)
    if comparison.lower_bound is not None:
        empty = [''] * (len(columns) - 2)
        table.rows.append(['lower bound', format_seconds(comparison.lower_bound), *empty])
    return table


def sections(comparison: Comparison) -> Table:
    """Tabulate the sections and peak memory of each case."""
    columns: dict[str, Callable[[Result], str]] = {'': lambda result: result.name}
    for name in max((result.sections for result in comparison.results), key=len):
        columns[name] = lambda result, name=name: (
            format_seconds(result.sections[name]) if name in result.sections else '–'
        )
    if any(result.peak_bytes is not None for result in comparison.results):
        columns['memory'] = lambda result: f'{result.peak_bytes / 1e6:.3g} MB'
    return _table(comparison.results, columns)


def _all_tables(comparison: Comparison) -> list[Table]:
    tables = [times(comparison), sections(comparison)]
    return [table for table in tables if len(table.header) > 1]


def _notes(comparison: Comparison) -> str:
    notes = f'{comparison.rounds} rounds; {comparison.note}.'
    if comparison.lower_bound_text:
        notes += f' Lower bound: {comparison.lower_bound_text}.'
    return notes


def _targets(comparisons: Sequence[Comparison]) -> Table:
    rows = [
        [
            target.text,
            format_factor(target.value),
            target.limit,
            'reached' if target.reached else '**not reached**',
        ]
        for comparison in comparisons
        for target in comparison.targets
    ]
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
    """Format all tables as a Markdown document.

    Args:
        comparisons: Comparisons in the order of the document.
        about: ``command`` and ``machine``.
    """
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
    """Write ``benchmark.json``, ``tables.md`` and ``bars.png``.

    Args:
        folder: Folder, created if needed.
        comparisons: Comparisons in the order of the document.
        peaks: Peak throughput of the machine.
        about: ``command``, ``machine`` and ``seconds``.

    Returns:
        list[Path]: The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = dict(about, peaks=asdict(peaks), comparisons=[asdict(each) for each in comparisons])
    paths = [folder / name for name in ('benchmark.json', 'tables.md', 'bars.png')]
    paths[0].write_text(json.dumps(numbers, indent=1, ensure_ascii=False), encoding='utf-8')
    paths[1].write_text(markdown(comparisons, about), encoding='utf-8')
    plot_bars(comparisons, paths[2])
    return paths


def plot_bars(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw the speed of each case, relative to the first of its comparison."""
    from matplotlib.figure import Figure

    heights = [1.1 + 0.3 * len(c.results) for c in comparisons]
    figure = Figure(figsize=(8, sum(heights)), layout='constrained')
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
        medians = [result.time.median for result in comparison.results]
        if max(medians) > 50 * min(medians):
            axes.set_xscale('log')
    figure.savefig(path, dpi=120)
