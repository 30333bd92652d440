"""Pictures of the loss round a net; see :mod:`prkd_mm.analysis.figures`."""

from itertools import cycle

import numpy as np

from ...estimates import Estimate
from ...visualization import LINE_STYLES, bars, finish, new_figure

SPLITS = ('train', 'test')


def curves(runs: dict[str, list[dict]], title: str):
    """Loss along random directions, with a band of the error.

    Args:
        runs (dict): By name, rows with ``a``, and ``mean`` and ``error`` of
            ``train_loss`` and ``test_loss``.
        title (str): Over it all.
    """
    figure = new_figure(10, 4)
    for axes, split in zip(figure.subplots(1, 2, sharey=True), SPLITS):
        for (name, rows), style in zip(runs.items(), cycle(LINE_STYLES)):
            a = [row['a'] for row in rows]
            mean, deviation = (
                np.array([row[f'{split}_loss'][key] for row in rows]) for key in ('mean', 'error')
            )
            (line,) = axes.semilogy(a, mean, style, label=name)
            axes.fill_between(
                a,
                np.maximum(mean - deviation, mean / 10),
                mean + deviation,
                alpha=0.15,
                color=line.get_color(),
            )
        finish(axes, "distance along a random direction, in filters' norms", f'{split} loss, nats')
    figure.suptitle(title, fontsize='medium')
    return figure


def surfaces(runs: dict[str, dict], title: str, x: str, y: str, one_scale: bool = True):
    """Contours of train and test loss in a plane, a row a run.

    Args:
        runs (dict): By name, ``rows`` with ``a``, ``b``, ``train_loss``,
            ``test_loss`` on a full grid, and ``marks``, coordinates by label.
        title (str): Over it all.
        x (str): Label of a.
        y (str): Label of b.
        one_scale (bool): One scale of colours for all runs. Defaults to True;
            else each panel has its own.
    """
    figure = new_figure(9, 1 + 3.6 * len(runs))
    figure.suptitle(title, fontsize='medium')
    all_axes = figure.subplots(len(runs), 2, squeeze=False)
    for column, split in enumerate(SPLITS):
        key = f'{split}_loss'
        every = [row[key] for run in runs.values() for row in run['rows']]
        for axes, (name, run) in zip(all_axes[:, column], runs.items()):
            own = [row[key] for row in run['rows']]
            filled = _contours(axes, run, key, every if one_scale else own)
            axes.set_title(f'{name}: {split} loss', fontsize='medium')
            axes.set_xlabel(x)
            axes.set_ylabel(y)
            if not one_scale:
                axes.set_aspect('equal')
                _colour_bar(figure, filled, axes, split)
        if one_scale:
            _colour_bar(figure, filled, all_axes[:, column].tolist(), split)
    return figure


def _contours(axes, run: dict, key: str, values: list[float]):
    from matplotlib.colors import LogNorm

    low = max(min(values), 1e-8)
    levels = np.geomspace(low, max(max(values), 1.01 * low), 25)
    a, b = (sorted({row[c] for row in run['rows']}) for c in 'ab')
    loss = {(row['a'], row['b']): row[key] for row in run['rows']}
    grid = np.array([[loss[p, q] for p in a] for q in b])
    filled = axes.contourf(
        a,
        b,
        np.clip(grid, levels[0], levels[-1]),
        levels,
        norm=LogNorm(levels[0], levels[-1]),
        cmap='viridis',
    )
    for (label, at), marker in zip(run['marks'].items(), cycle('osD*')):
        axes.plot(
            *at,
            marker,
            color='white',
            markeredgecolor='black',
            markersize=14 if marker == '*' else 8,
        )
        axes.annotate(
            label,
            at,
            (8, 6),
            textcoords='offset points',
            fontsize='small',
            bbox=dict(boxstyle='round', facecolor='white', alpha=0.7),
        )
    axes.locator_params(nbins=5)
    return filled


def _colour_bar(figure, filled, axes, split: str) -> None:
    bar = figure.colorbar(
        filled, ax=axes, format='%.3g', location='bottom', label=f'{split} loss, nats'
    )
    bar.minorticks_off()
    bar.set_ticks(filled.levels[::6])


MEASURES = dict(
    top_eigenvalue='top Hessian eigenvalue',
    trace='Hessian trace',
    normalised_top_eigenvalue='the same, filter-normalised',
    normalised_trace='the same, filter-normalised',
    worst_rise='rise of the loss to the worst found\nwithin the radius, nats',
)


def sharpness(runs: dict[str, dict], title: str):
    """Bars of the sharpness measures, with errors over the seeds.

    Args:
        runs (dict): By name, of each of ``MEASURES`` ``mean`` and ``error``.
        title (str): Over it all.
    """
    figure = new_figure(11, 2 + 0.9 * len(runs))
    figure.suptitle(title, fontsize='medium')
    all_axes = figure.subplots(2, 3)
    order = (
        'top_eigenvalue',
        'normalised_top_eigenvalue',
        'worst_rise',
        'trace',
        'normalised_trace',
    )
    for axes, key in zip(all_axes.flat, order):
        bars(axes, {name: Estimate(**run[key]) for name, run in runs.items()}, MEASURES[key])
    all_axes.flat[-1].set_axis_off()
    return figure
