"""Figure of accuracy against the share of the initial strength that PRKD ends at."""

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..stats.estimates import Estimate, mean_and_standard_error
from ..visualization import LEGEND_LINE, finish, method_styles, new_figure
from .results import Row, compared_by, labels, number_of_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PREFIX = 'prkd_to_'
_LEGEND_WIDTH = 78  # number of characters in a row of the legend
_REFERENCES = ('ce', 'kd', 'dist', 'cor', 'prkd')


def relax_to(method: str) -> Fraction:
    """The share in the name of a method: 1/4 for ``prkd_to_1_4``."""
    return Fraction(method.removeprefix(_PREFIX).replace('_', '/'))


def draw_relaxation(rows: Sequence[Row], path: Path) -> list[Path]:
    """Plot top-1 against the share of the initial strength that PRKD ends at.

    That is the share that the runs logged, or else ``relax_to``. The other methods are horizontal
    lines. Error bars and bands are the standard error over the seeds. PRKD with other options has
    a curve of its own. There is no picture with fewer than two values of ``relax_to``.
    """
    relaxed = [row for row in rows if (row.method or '').startswith(_PREFIX)]
    if len({row.method for row in relaxed}) < 2:
        return []
    shipped = [row for row in rows if row.method == 'prkd' and row.strength]
    lines = [row for row in rows if row.method in _REFERENCES and row not in shipped]
    by = compared_by([*relaxed, *shipped, *lines])
    figure = new_figure(6.4, 4.4)
    axes = figure.subplots()
    options = sorted({_options(row) for row in (*relaxed, *shipped)}, key=len)
    styles = method_styles([*(row.name for row in lines), 'prkd', *options[1:]])
    named = labels(rows)
    for row in lines:
        color, dash = styles[row.name]
        mean, error = _estimate(row, by)
        axes.axhline(mean, color=color, linestyle=dash, label=named[row.name])
        if not math.isnan(error):  # several seeds
            axes.axhspan(mean - error, mean + error, color=color, alpha=0.12, linewidth=0)
    for option, style in zip(options, ['prkd', *options[1:]]):
        group = sorted((row for row in relaxed if _options(row) == option), key=_share)
        label = f'PRKD with relax_to{option}' + _seeds(group, named)
        _draw_points(axes, group, by, color=styles[style].color, marker='o', label=label)
        for row in (row for row in shipped if _options(row) == option):
            look = dict(color=styles[style].color, marker='D', markerfacecolor='white')
            _draw_points(axes, [row], by, label=named[row.name], linestyle='', **look)
    for row in relaxed:
        words = f'to {relax_to(row.method or "")}'
        at = _share(row), _estimate(row, by).mean
        box = dict(facecolor='white', edgecolor='none', alpha=0.8, pad=1)  # it may cover a line
        text = axes.annotate(words, at, (0, -16), textcoords='offset points', bbox=box)
        text.set(ha='center', size='small')
    shares = sorted({float(f'{_share(row):.2g}') for row in (*relaxed, *shipped)})
    axes.margins(0.1)
    axes.set_xscale('log', base=2)
    axes.set_xticks(shares, [f'{share:.2g}' for share in shares])
    axes.minorticks_off()
    what = 'averaged top-1' if by == 'averaged' else 'top-1 after the last epoch'
    finish(axes, 'final strength / initial strength', f'{what}, % (± standard error)', legend=False)
    longest = max(map(len, axes.get_legend_handles_labels()[1]))
    columns = max(1, min(3, _LEGEND_WIDTH // longest))
    figure.legend(
        loc='outside lower center', ncols=columns, fontsize='small', handlelength=LEGEND_LINE
    )
    figure.savefig(path, dpi=120)
    return [path]


def _draw_points(axes: 'Axes', rows: Sequence[Row], by: str, **style: Any) -> None:
    """Draw the means of some rows at their shares, with error bars."""
    if rows:
        means, errors = zip(*(_estimate(row, by) for row in rows))
        axes.errorbar([_share(row) for row in rows], means, yerr=errors, capsize=3, **style)


def _options(row: Row) -> str:
    """What the name of a row says about its options, such as `` (loss_weight=12.6)``."""
    return row.name.removeprefix(row.runs[0].title)


def _seeds(group: Sequence[Row], named: dict[str, str]) -> str:
    """Numbers of seeds for the legend, if the labels of the rows have them."""
    if all(named[row.name] == row.name for row in group):  # or no rows
        return ''
    counts = [len(row.runs) for row in group]
    few, many = min(counts), max(counts)
    return ', ' + (f'{few} to ' if few < many else '') + number_of_seeds(many)


def _share(row: Row) -> float:
    """The share that the runs reached, or else the one in the name of the method."""
    if row.strength and row.strength[0]:
        return row.strength[1] / row.strength[0]
    return float(relax_to(row.method or ''))


def _estimate(row: Row, by: str) -> Estimate:
    return mean_and_standard_error(list(row.by_seed(by).values()))
