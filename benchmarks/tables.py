"""Show what was measured: on the screen, as JSON, Markdown and pictures."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

import mmengine
import mmpretrain
import mmrazor
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from prkd_mm.version import __version__

from .comparison import Bar, Comparison
from .floors import Peaks
from .scaling import Curves
from .timing import ALONE, OURS, STOCK, TUNED, Summary

_COLORS = {STOCK: 'tab:gray', TUNED: 'tab:olive', ALONE: 'tab:green', OURS: 'tab:blue'}
_OVER = {STOCK: 'x stock', TUNED: 'x tuned', ALONE: 'x alone'}


def machine(device: torch.device) -> dict:
    """Where the numbers come from."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file():
        models = [
            line.partition(':')[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith('model name')
        ]
        name = models[0] if models else name
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


def seconds(value: Optional[float]) -> str:
    """A time in a unit that suits it."""
    if value is None:
        return '–'
    for unit, size in (('s', 1.0), ('ms', 1e-3), ('µs', 1e-6)):
        if value >= size:
            return f'{value / size:.3g} {unit}'
    return f'{value * 1e9:.3g} ns'


def size(value: Optional[int]) -> str:
    """Bytes in MB."""
    return '–' if value is None else f'{value / 1e6:.3g} MB'


def _spread(summary: Optional[Summary], show=seconds) -> str:
    """The median, and half of what is between the quartiles."""
    if summary is None:
        return '–'
    half = (summary.high - summary.low) / 2 / summary.median
    return f'{show(summary.median)} ±{half:.0%}'


def _times(value: float) -> str:
    return f'{value:.2f}' if value < 100 else f'{value:,.0f}'


def table(comparison: Comparison) -> list[list[str]]:
    """Headings and cells: a line for each case, the floor below."""
    sides = comparison.opponents()
    lines = [
        [
            '',
            f'{comparison.clock} time/{comparison.unit}',
            *['images/s'] * bool(comparison.batch),
            *(_OVER[side] for side in sides),
        ]
    ]
    for result in comparison.results:
        lines.append(
            [
                result.name,
                _spread(result.time),
                *[f'{comparison.batch / result.wall.median:,.0f}'] * bool(comparison.batch),
                *(_spread(result.speedups.get(side), _times) for side in sides),
            ]
        )
    if comparison.floor is not None:
        empty = [''] * (len(lines[0]) - 2)
        lines.append(['floor', seconds(comparison.floor), *empty])
    return lines


def parts(comparison: Comparison) -> list[list[str]]:
    """Headings and cells: the parts of each case, and its peak memory."""
    results = comparison.results
    names = list(max((result.sections for result in results), key=len))
    memory = any(result.peak_bytes for result in results)
    if not names and not memory:
        return []
    return [['', *names, *['memory'] * memory]] + [
        [
            result.name,
            *(seconds(result.sections.get(name)) for name in names),
            *[size(result.peak_bytes)] * memory,
        ]
        for result in results
    ]


def show(console: Console, comparison: Comparison) -> None:
    """Print a comparison."""
    console.print(f'\n[bold]{comparison.title}[/]', highlight=False)
    for lines in filter(None, (table(comparison), parts(comparison))):
        shown = Table(box=SIMPLE_HEAD, padding=0, show_edge=False)
        for i, heading in enumerate(lines[0]):
            shown.add_column(heading, no_wrap=True, justify='right' if i else 'left')
        for cells in lines[1:]:
            shown.add_row(*cells)
        console.print(shown)
        console.print()
    for text in (*_notes(comparison), *map(_bar, comparison.bars)):
        console.print(text, highlight=False)


def _notes(comparison: Comparison) -> list[str]:
    floor = [f'Floor: {comparison.floor_text}.'] * bool(comparison.floor_text)
    return [f'{comparison.rounds} rounds; {note}.' for note in comparison.notes] + floor


def _wanted(bar: Bar) -> str:
    if bar.at_least is not None:
        return f'at least {bar.at_least:.3g}'
    return f'at most {bar.at_most:.3g}'


def _bar(bar: Bar) -> str:
    word = 'reached' if bar.reached else 'NOT REACHED'
    return f'{bar.text}: {_times(bar.value)}, {_wanted(bar)}: {word}'


def markdown(comparisons: Sequence[Comparison], about: dict) -> str:
    """All tables, for a document.

    Args:
        comparisons (Sequence[Comparison]): In their order.
        about (dict): ``command``, ``machine``.
    """
    lines = [
        f'`{about["command"]}`',
        '',
        ', '.join(f'{key}: {value}' for key, value in about['machine'].items() if key != 'load')
        + '.',
        '',
    ]
    for comparison in comparisons:
        lines += [f'### {comparison.title[0].upper()}{comparison.title[1:]}', '']
        for cells in filter(None, (table(comparison), parts(comparison))):
            lines += _markdown(*cells)
        lines += [' '.join(_notes(comparison)), '']
    bars = [bar for comparison in comparisons for bar in comparison.bars]
    if bars:
        lines += [
            '### Bars',
            '',
            *_markdown(
                ['', 'measured', 'wanted', ''],
                *(
                    [
                        bar.text,
                        _times(bar.value),
                        _wanted(bar),
                        'reached' if bar.reached else '**not reached**',
                    ]
                    for bar in bars
                ),
            ),
        ]
    return '\n'.join(lines)


def _markdown(first: Sequence[str], *others: Sequence[str]) -> list[str]:
    rule = ['---'] + ['---:'] * (len(first) - 1)
    return [f'| {" | ".join(cells)} |' for cells in (first, rule, *others)] + ['']


def save(
    folder: Path,
    comparisons: Sequence[Comparison],
    curves: Sequence[Curves],
    peaks: Peaks,
    about: dict,
) -> list[Path]:
    """Write ``benchmark.json``, ``tables.md``, ``bars.png``, ``scaling.png``.

    Args:
        folder (Path): Where to.
        comparisons (Sequence[Comparison]): May be empty.
        curves (Sequence[Curves]): May be empty.
        peaks (Peaks): Of the machine.
        about (dict): ``command``, ``machine``, ``seconds``.

    Returns:
        list[Path]: The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers: Any = dict(
        about,
        peaks=asdict(peaks),
        comparisons=[comparison.as_dict() for comparison in comparisons],
        scaling=[asdict(each) for each in curves],
    )
    paths = [folder / 'benchmark.json']
    paths[0].write_text(json.dumps(numbers, indent=1, ensure_ascii=False))
    if comparisons:
        paths += [folder / 'tables.md', folder / 'bars.png']
        paths[1].write_text(markdown(comparisons, about), encoding='utf-8')
        plot_bars(comparisons, paths[2])
    if curves:
        paths.append(folder / 'scaling.png')
        plot_curves(curves, paths[-1])
    return paths


def plot_bars(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw how fast each case is, in those of its comparison's first."""
    from matplotlib.figure import Figure

    heights = [1.1 + 0.3 * len(c.results) for c in comparisons]
    figure = Figure(figsize=(8, sum(heights)), layout='constrained')
    panels = figure.subplots(len(comparisons), squeeze=False, height_ratios=heights)[:, 0]
    for axes, comparison in zip(panels, comparisons):
        first = comparison.results[0].time.median
        for i, result in enumerate(comparison.results):
            times = result.time
            speed = [first / t for t in (times.median, times.high, times.low)]
            axes.barh(
                i,
                speed[0],
                color=_COLORS[result.side],
                xerr=[[speed[0] - speed[1]], [speed[2] - speed[0]]],
            )
            axes.annotate(f' {_times(speed[0])}', (speed[2], i), va='center')
        axes.set_yticks(
            range(len(comparison.results)), [result.name for result in comparison.results]
        )
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_title(f'{comparison.title}: speed', fontsize='medium')
        if _wide(comparison):
            axes.set_xscale('log')
    figure.savefig(path, dpi=120)


def _wide(comparison: Comparison) -> bool:
    times = [result.time.median for result in comparison.results]
    return max(times) > 50 * min(times)


def plot_curves(curves: Sequence[Curves], path: Path) -> None:
    """Draw how costs grow, one panel each."""
    from matplotlib.figure import Figure

    lines = -(-len(curves) // 2)
    figure = Figure(figsize=(10, 3.2 * lines), layout='constrained')
    panels = list(figure.subplots(lines, 2, squeeze=False).flat)
    for axes in panels:
        axes.set_visible(False)
    for axes, each in zip(panels, curves):
        axes.set_visible(True)
        for (name, values), style in zip(each.curves.items(), ('o-', 's--', 'd-.', 'x:')):
            axes.plot(each.x, values, style, label=name)
        axes.set_xlabel(each.x_label)
        axes.set_ylabel(each.y_label)
        axes.set_title(each.title, fontsize='medium')
        values = [y for line in each.curves.values() for y in line]
        if max(each.x) >= 10 * min(each.x):
            axes.set_xscale('log')
        if max(values) >= 4 * min(values):
            axes.set_yscale('log')
        else:
            axes.set_ylim(0, 1.3 * max(values))
        axes.grid(alpha=0.3)
        axes.legend(fontsize='small')
    figure.savefig(path, dpi=120)
