"""Figure of the spread study."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ...stats.estimates import Estimate
from ...visualization import Style, bars, finish, method_styles, new_figure
from .measure import RunSpread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def spread(runs: dict[str, RunSpread]) -> Figure:
    """Top-1 and gain of the average by number of students; scatter of the tail."""
    figure = new_figure(11, 8)
    (top1, gain), (distance, disagreement) = figure.subplots(2, 2)
    styles = method_styles(list(runs))
    _draw_top1(top1, runs, styles)
    _draw_gain(gain, runs, styles)
    colors = [styles[name].color for name in runs]
    scatter = {name: Estimate(100 * run.relative_rms, math.nan) for name, run in runs.items()}
    bars(distance, scatter, 'rms distance from the mean / norm of the mean, %', color=colors)
    distance.set_title("scatter of the tail's weights")
    differ = {name: Estimate(100 * run.disagreement, math.nan) for name, run in runs.items()}
    bars(disagreement, differ, '% of the images, mean over pairs', color=colors)
    disagreement.set_title('pairs of the tail that predict differently')
    for axes in (top1, gain):
        axes.locator_params(axis='x', integer=True)
    figure.legend(
        *top1.get_legend_handles_labels(), loc='outside lower center', ncols=7, fontsize='small'
    )
    return figure


def _draw_top1(axes: Axes, runs: dict[str, RunSpread], styles: dict[str, Style]) -> None:
    for name, run in runs.items():
        color, dash = styles[name]
        x = [average.averaged for average in run.by_number]
        top1 = [average.top1 for average in run.by_number]
        raw = [average.raw_top1 for average in run.by_number]
        axes.plot(x, top1, color=color, linestyle=dash, linewidth=2.5, label=name)
        axes.plot(x, raw, color=color, linestyle=dash, linewidth=1, marker='.', alpha=0.7)
    finish(axes, 'I, checkpoints averaged', 'top-1, %', legend=False)
    axes.set_title('thick: mean of the last I students; thin: raw students')


def _draw_gain(axes: Axes, runs: dict[str, RunSpread], styles: dict[str, Style]) -> None:
    for name, run in runs.items():
        color, dash = styles[name]
        x = [average.averaged for average in run.by_number]
        gain = np.array([average.gain for average in run.by_number])
        error = np.array([average.gain_error for average in run.by_number])
        axes.plot(x, gain, color=color, linestyle=dash, linewidth=2)
        axes.fill_between(x, gain - error, gain + error, color=color, alpha=0.15)
    axes.axhline(0, color='black', linewidth=0.8)
    finish(
        axes, 'I, checkpoints averaged', 'top-1 gain over the raw students, points', legend=False
    )
    axes.set_title('gain from averaging (band: ± 1 standard error\nover the images)')
