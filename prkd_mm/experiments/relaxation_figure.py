"""Figure of accuracy against the share of the initial strength that PRKD ends at."""

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from ..estimates import mean_and_standard_error
from ..visualization import finish, method_styles, new_figure
from .results import Row, compared_by

_PREFIX = 'prkd_to_'
_REFERENCES = ('ce', 'kd', 'dist', 'cor', 'prkd')


def relax_to(method: str) -> Fraction:
    """The share in the name of a method: 1/4 for ``prkd_to_1_4``."""
    return Fraction(method.removeprefix(_PREFIX).replace('_', '/'))


def draw_relaxation(rows: Sequence[Row], path: Path) -> list[Path]:
    """Plot top-1 against ``relax_to``, and the other methods as horizontal lines.

    Error bars and bands are the standard error over the seeds. There is no picture with fewer
    than two values of ``relax_to``.
    """
    relaxed = [row for row in rows if (row.method or '').startswith(_PREFIX)]
    if len({row.method for row in relaxed}) < 2:
        return []
    lines = [row for row in rows if row.method in _REFERENCES]
    by = compared_by([*relaxed, *lines])
    relaxed.sort(key=lambda row: relax_to(row.method or ''))
    figure = new_figure(6.4, 4.4)
    axes = figure.subplots()
    styles = method_styles([row.name for row in lines])
    for row in lines:
        color, dash = styles[row.name]
        mean, error = mean_and_standard_error(list(row.by_seed(by).values()))
        axes.axhline(mean, color=color, linestyle=dash, label=row.name)
        if not math.isnan(error):  # several seeds
            axes.axhspan(mean - error, mean + error, color=color, alpha=0.12, linewidth=0)
    shares = [relax_to(row.method or '') for row in relaxed]
    estimates = [mean_and_standard_error(list(row.by_seed(by).values())) for row in relaxed]
    means, errors = zip(*estimates)
    axes.errorbar(
        [float(share) for share in shares],
        means,
        yerr=errors,
        marker='o',
        capsize=3,
        color=method_styles(['prkd'])['prkd'].color,
        label='PRKD to this share',
    )
    axes.set_xscale('log', base=2)
    axes.set_xticks([float(share) for share in shares], [str(share) for share in shares])
    what = 'averaged top-1' if by == 'averaged' else 'top-1 after the last epoch'
    finish(axes, 'final strength / initial strength (relax_to)', f'{what}, %', legend=False)
    figure.legend(loc='outside lower center', ncols=3, fontsize='small')
    figure.savefig(path, dpi=120)
    return [path]
