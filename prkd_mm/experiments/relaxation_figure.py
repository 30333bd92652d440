"""Figure of accuracy against the share of the initial strength that PRKD ends at."""

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from ..estimates import Estimate, mean_and_standard_error
from ..visualization import LEGEND_LINE, finish, method_styles, new_figure
from .results import Row, compared_by

_PREFIX = 'prkd_to_'
_REFERENCES = ('ce', 'kd', 'dist', 'cor', 'prkd')


def relax_to(method: str) -> Fraction:
    """The share in the name of a method: 1/4 for ``prkd_to_1_4``."""
    return Fraction(method.removeprefix(_PREFIX).replace('_', '/'))


def draw_relaxation(rows: Sequence[Row], path: Path) -> list[Path]:
    """Plot top-1 against the share of the initial strength that PRKD ends at.

    That is the share that the runs logged, or else ``relax_to``. The other methods are horizontal
    lines. Error bars and bands are the standard error over the seeds. There is no picture with
    fewer than two values of ``relax_to``.
    """
    relaxed = [row for row in rows if (row.method or '').startswith(_PREFIX)]
    if len({row.method for row in relaxed}) < 2:
        return []
    shipped = [row for row in rows if row.method == 'prkd' and row.strength]
    lines = [row for row in rows if row.method in _REFERENCES and row not in shipped]
    by = compared_by([*relaxed, *shipped, *lines])
    figure = new_figure(6.4, 4.4)
    axes = figure.subplots()
    styles = method_styles([row.name for row in lines])
    for row in lines:
        color, dash = styles[row.name]
        mean, error = _estimate(row, by)
        axes.axhline(mean, color=color, linestyle=dash, label=row.name)
        if not math.isnan(error):  # several seeds
            axes.axhspan(mean - error, mean + error, color=color, alpha=0.12, linewidth=0)
    color = method_styles(['prkd'])['prkd'].color
    relaxed.sort(key=_share)
    means, errors = zip(*(_estimate(row, by) for row in relaxed))
    axes.errorbar(
        [_share(row) for row in relaxed],
        means,
        yerr=errors,
        marker='o',
        capsize=3,
        color=color,
        label='PRKD with relax_to',
    )
    for row in shipped:
        mean, error = _estimate(row, by)
        axes.errorbar(
            [_share(row)], [mean], yerr=[error], marker='D', ls='', capsize=3, color=color,
            markerfacecolor='white', label=row.name,
        )  # fmt: skip
    for row in relaxed:
        text = f'to {relax_to(row.method or "")}'
        at = _share(row), _estimate(row, by).mean
        axes.annotate(text, at, (0, -16), textcoords='offset points', ha='center', size='small')
    shares = [_share(row) for row in (*relaxed, *shipped)]
    axes.margins(x=0.1)
    axes.set_xscale('log', base=2)
    axes.set_xticks(shares, [f'{share:.2g}' for share in shares])
    axes.minorticks_off()
    what = 'averaged top-1' if by == 'averaged' else 'top-1 after the last epoch'
    finish(axes, 'final strength / initial strength', f'{what}, % (± standard error)', legend=False)
    figure.legend(loc='outside lower center', ncols=3, fontsize='small', handlelength=LEGEND_LINE)
    figure.savefig(path, dpi=120)
    return [path]


def _share(row: Row) -> float:
    """The share that the runs reached, or else the one in the name of the method."""
    if row.strength and row.strength[0]:
        return row.strength[1] / row.strength[0]
    return float(relax_to(row.method or ''))


def _estimate(row: Row, by: str) -> Estimate:
    return mean_and_standard_error(list(row.by_seed(by).values()))
