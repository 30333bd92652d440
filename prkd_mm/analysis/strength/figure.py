"""Figure of the strength study."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from ...stats.estimates import Estimate
from ...visualization import (
    LINE_STYLES,
    Style,
    bars,
    finish,
    label_log_axis,
    legend_below,
    method_styles,
    new_figure,
)
from .along_run import PARTS, StrengthOverRun
from .measure import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_WITH_PARTS = 3  # of the runs in a panel that also shows the terms of their losses
_DASHES = dict(zip(PARTS.values(), LINE_STYLES))  # line styles for the terms of a loss


def strength(schemes: dict[str, Summary], along: dict[str, StrengthOverRun], title: str) -> Figure:
    """Six panels: curvature at the match, gradients, and both over a run."""
    figure = new_figure(11, 12)
    figure.suptitle(title)
    (spectrum, curvature), (gradient, share), (over_run, tail) = figure.subplots(3, 2)
    _draw_spectrum(spectrum, schemes)
    _draw_curvature(curvature, schemes)
    norms = {name: summary.gradient_norm for name, summary in schemes.items()}
    bars(gradient, norms, "gradient norm in a sample's logits, τ² included", log=True)
    gradient.set_title('(c) gradient on the trained student')
    shares = {
        name: Estimate(*(100 * x for x in summary.small_class_share))
        for name, summary in schemes.items()
    }
    bars(share, shares, '% of the gradient (sum of absolute values)')
    share.set_xlim(0, 100)
    share.set_title('(d) gradient on classes with teacher p < 1/C')
    styles = method_styles(list(along))
    _draw_strength_over_run(over_run, along, styles)
    _draw_gradients_over_run(tail, along, styles)
    return figure


def _draw_spectrum(axes: Axes, schemes: dict[str, Summary]) -> None:
    for (name, summary), dash in zip(schemes.items(), cycle(LINE_STYLES)):
        values = np.array(summary.spectrum)
        values[values < 1e-9 * values[0]] = np.nan  # rounding noise of free directions
        axes.semilogy(np.arange(1, len(values) + 1), values, dash, marker='.', label=name)
    x = 'direction in the logits, sorted by curvature'
    finish(axes, x, 'curvature at the match, τ² included')
    axes.set_title('(a) Hessian eigenvalues, mean over the samples')


def _draw_curvature(axes: Axes, schemes: dict[str, Summary]) -> None:
    means = {name: summary.strength for name, summary in schemes.items()}
    bars(axes, means, 'mean curvature per direction (trace / C), τ² included', log=True)
    without = [summary.without_tau2 for summary in schemes.values()]
    axes.plot(without, np.arange(len(schemes)), 'D', color='black', markersize=4)
    label_log_axis(axes)
    axes.set_title('(b) strength at the match; black: without τ²')


def _draw_strength_over_run(
    axes: Axes, along: dict[str, StrengthOverRun], styles: dict[str, Style]
) -> None:
    show_parts = len(along) <= _MOST_WITH_PARTS
    for name, run in along.items():
        color, dash = styles[name]
        epochs = np.add(run.epochs, 1)
        axes.plot(epochs, run.strength, color=color, linestyle=dash, linewidth=2.5, label=name)
        for part, values in run.parts.items() if show_parts and len(run.parts) > 1 else ():
            label = f'{name}: {part}'
            axes.plot(epochs, values, _DASHES[part], color=color, linewidth=1, label=label)
    finish(axes, 'epoch', 'mean curvature, all weights included', legend=False)
    if along:
        legend_below(axes, 2)
    axes.locator_params(axis='x', integer=True)
    axes.set_yscale('log')
    axes.set_title("(e) strength of the run's own loss at the match,\nimages without augmentation")


def _draw_gradients_over_run(
    axes: Axes, along: dict[str, StrengthOverRun], styles: dict[str, Style]
) -> None:
    drawn = {name: run.gradients for name, run in along.items() if run.gradients}
    for name, gradients in drawn.items():
        means, errors = zip(*gradients.values())
        color, dash = styles[name]
        zeros = means.count(0.0)  # a logarithmic axis cannot show them
        note = f' ({zeros} of {len(means)} are 0, not shown)' if zeros else ''
        axes.errorbar(
            list(gradients),
            means,
            errors,
            color=color,
            linestyle=dash,
            marker='.',
            capsize=2,
            label=name + note,
        )
    finish(axes, 'epoch', 'gradient norm, all weights included', legend=False)
    axes.locator_params(axis='x', integer=True)
    if drawn:
        legend_below(axes, 2)
    axes.set_yscale('log')
    axes.set_title("(f) its gradient on the run's own students")
