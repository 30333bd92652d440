"""Figures of the landscape study."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from ...visualization import Style, bars, finish, method_styles, new_figure
from .measure import SPLITS, Draw, Surface, over_trainings, sharpness_over_trainings

_LEVELS = 25  # number of contour levels


# in the order of the panels
_MEASURES = dict(
    top_eigenvalue='top Hessian eigenvalue',
    normalized_top_eigenvalue='top eigenvalue, filter-normalized',
    worst_rise='largest increase of the loss\nfound within the radius, nats',
    trace='Hessian trace',
    normalized_trace='trace, filter-normalized',
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.contour import QuadContourSet
    from matplotlib.figure import Figure


def curves(runs: dict[str, list[Draw]], title: str) -> Figure:
    """Loss along random directions, with a band of ± 1 standard deviation."""
    figure = new_figure(10, 4)
    styles = method_styles(list(runs))
    cut = False
    for axes, split in zip(figure.subplots(1, 2, sharey=True), SPLITS):
        for name, draws in runs.items():
            cut |= _draw_band(axes, draws, split, name, styles[name])
        finish(axes, 'distance along a random direction, in filter norms', f'{split} loss, nats')
    note = '\nWhere a band would reach below a tenth of the mean, its lower edge is there'
    figure.suptitle(title + note * cut, fontsize='medium')
    return figure


def _draw_band(axes: Axes, draws: list[Draw], split: str, name: str, style: Style) -> bool:
    """Draw the curve of a run with its band; whether the lower edge of the band was cut."""
    axis = list(draws[0].curve)
    estimates = [over_trainings(draws, [draw.curve[a][split].loss for draw in draws]) for a in axis]
    mean, error = np.array(estimates).T
    axes.semilogy(axis, mean, color=style.color, linestyle=style.dash, label=name)
    low = np.maximum(mean - error, mean / 10)  # a logarithmic axis cannot show 0
    axes.fill_between(axis, low, mean + error, alpha=0.15, color=style.color)
    return bool((mean - error < low).any())


def random_surfaces(runs: dict[str, Surface], title: str) -> Figure:
    """Contours in the plane of two random directions, on one color scale for all runs."""
    figure, panels = _panels(runs, title)
    for column, split in enumerate(SPLITS):
        values = np.concatenate([surface.losses(split).ravel() for surface in runs.values()])
        for (name, surface), axes in zip(runs.items(), panels[:, column]):
            filled = _contours(axes, surface, split, values)
            axes.set_title(f'{name}: {split} loss', fontsize='medium')
            axes.set_xlabel('direction 1, in filter norms')
            axes.set_ylabel('direction 2, in filter norms')
        _color_bar(figure, filled, panels[:, column].tolist(), split)
    return figure


def planes(runs: dict[str, Surface], title: str) -> Figure:
    """Contours in the plane through three checkpoints, on one color scale per panel."""
    figure, panels = _panels(runs, title)
    for (name, surface), row in zip(runs.items(), panels):
        for axes, split in zip(row, SPLITS):
            filled = _contours(axes, surface, split, surface.losses(split))
            _draw_marks(axes, surface.marks)
            axes.set_title(f'{name}: {split} loss', fontsize='medium')
            axes.set_xlabel('distance of the weights')
            axes.set_ylabel('distance of the weights')
            axes.set_aspect('equal')
            _color_bar(figure, filled, axes, split)
    return figure


def _panels(runs: dict[str, Surface], title: str) -> tuple[Figure, np.ndarray]:
    figure = new_figure(9, 1 + 3.6 * len(runs))
    figure.suptitle(title, fontsize='medium')
    return figure, figure.subplots(len(runs), 2, squeeze=False)


def _contours(axes: Axes, surface: Surface, split: str, values: np.ndarray) -> QuadContourSet:
    """Draw the contours on the color scale of ``values``."""
    from matplotlib.colors import LogNorm

    low = max(values.min(), 1e-8)
    levels = np.geomspace(low, max(values.max(), 1.01 * low), _LEVELS)
    losses = np.clip(surface.losses(split), levels[0], levels[-1])
    norm = LogNorm(levels[0], levels[-1])
    axes.locator_params(nbins=5)
    return axes.contourf(surface.a, surface.b, losses, levels, norm=norm, cmap='viridis')


def _draw_marks(axes: Axes, marks: dict[str, list[float]]) -> None:
    for (label, (x, y)), marker in zip(marks.items(), cycle('osD*')):
        size = 14 if marker == '*' else 8
        axes.plot(x, y, marker, color='white', markeredgecolor='black', markersize=size)
        left = label == 'mean'  # it lies between the checkpoints, so that their labels are near
        axes.annotate(
            label,
            (x, y),
            (-8 if left else 8, 6),
            textcoords='offset points',
            ha='right' if left else 'left',
            fontsize='small',
            bbox=dict(boxstyle='round', facecolor='white', alpha=0.7),
        )


def _color_bar(figure: Figure, filled: QuadContourSet, axes: Axes | list[Axes], split: str) -> None:
    label = f'{split} loss, nats'
    bar = figure.colorbar(filled, ax=axes, format='%.3g', location='bottom', label=label)
    bar.minorticks_off()
    bar.set_ticks(list(filled.levels)[::6])


def sharpness(runs: dict[str, list[Draw]], title: str) -> Figure:
    """Bars of the sharpness measures, with errors over the trainings or draws."""
    figure = new_figure(11, 2 + 0.9 * len(runs))
    figure.suptitle(title, fontsize='medium')
    panels = figure.subplots(2, 3)
    colors = [style.color for style in method_styles(list(runs)).values()]
    for axes, (key, label) in zip(panels.flat, _MEASURES.items()):
        estimates = {name: sharpness_over_trainings(draws, key) for name, draws in runs.items()}
        bars(axes, estimates, label, color=colors)
    panels.flat[-1].set_axis_off()
    return figure
