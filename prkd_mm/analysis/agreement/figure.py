"""Figures of the agreement study."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ...stats.estimates import Estimate
from ...visualization import (
    LEGEND_LINE,
    Style,
    bars,
    finish,
    legend_columns,
    method_styles,
    new_figure,
)
from .measure import Agreement, Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_SHOWN_SHARE = 0.01  # the accuracy of a bin with fewer samples is noise
_NETS_WIDTH = 8.5  # of the legend of the nets, in inches; the other one needs the rest
_FEW_CLASSES = 30  # bars with names; more classes are drawn as curves


def agreement(nets: dict[str, Agreement]) -> Figure:
    """Reliability diagram, calibration error, and agreement with the teacher."""
    figure = new_figure(11, 4.8)
    diagram, calibration, same = figure.subplots(1, 3, width_ratios=[1.2, 1, 1])
    styles = method_styles(list(nets))
    _draw_reliability(diagram, nets, styles)
    errors = {name: Estimate(100 * net.ece, math.nan) for name, net in nets.items()}
    colors = [styles[name].color for name in nets]
    bars(calibration, errors, 'expected calibration error, points', color=colors)
    calibration.set_title('calibration')
    _draw_same_top1(same, {name: net for name, net in nets.items() if name != 'teacher'})
    # outside of the panels, which are too narrow for them
    common: dict[str, Any] = dict(fontsize='small', handlelength=LEGEND_LINE)
    columns = legend_columns(nets, _NETS_WIDTH)
    parts = diagram.get_legend_handles_labels(), same.get_legend_handles_labels()
    figure.legend(*parts[0], loc='outside lower left', ncols=columns, **common)
    figure.legend(*parts[1], loc='outside lower right', **common)
    return figure


def _draw_reliability(axes: Axes, nets: dict[str, Agreement], styles: dict[str, Style]) -> None:
    axes.plot([0, 1], [0, 1], color='black', linewidth=0.8)
    for name, found in nets.items():
        bins = zip(found.bin_confidence, found.bin_accuracy, found.bin_share)
        shown = [point for point in bins if point[2] >= _SHOWN_SHARE]
        x, y, share = np.array(shown).reshape(-1, 3).T  # empty with very many bins
        color, dash = styles[name]
        axes.plot(x, y, color=color, linestyle=dash, linewidth=1, label=name)
        axes.scatter(x, y, 400 * share, color=color, alpha=0.5)
    finish(axes, 'confidence (largest probability)', 'accuracy', legend=False)
    axes.set_title('reliability; area: share of the images')


def _draw_same_top1(axes: Axes, students: dict[str, Agreement]) -> None:
    positions = np.arange(len(students))
    # None, where the teacher makes no error, becomes NaN: no bar
    on_errors = np.array([student.top1_on_errors for student in students.values()], float)
    on_all = [student.top1 for student in students.values()]
    axes.barh(positions - 0.2, on_all, 0.4, label='all images')
    axes.barh(positions + 0.2, on_errors, 0.4, label='teacher is wrong')
    axes.set_yticks(positions, list(students))
    axes.invert_yaxis()
    axes.grid(alpha=0.3, axis='x')
    axes.set_xlabel('same top-1, % of the images')
    axes.set_title('agreement with the teacher')


def correlation_maps(maps: dict[str, np.ndarray]) -> Figure:
    """Class correlations ``(C, C)`` of each student minus those of the teacher, one map each."""
    columns = min(len(maps), 4)
    rows = -(-len(maps) // columns)
    figure = new_figure(1.5 + 3.2 * columns, 0.5 + 3.2 * rows)
    limit = max(np.abs(x).max() for x in maps.values()) or 1.0
    all_axes = figure.subplots(rows, columns, squeeze=False)
    for axes in all_axes.flat[len(maps) :]:
        axes.set_visible(False)
    for axes, (name, x) in zip(all_axes.flat, maps.items()):
        image = axes.imshow(x, cmap='RdBu_r', vmin=-limit, vmax=limit)
        axes.set_title(f'{name}: mean |difference| {np.abs(x).mean():.3f}', fontsize='medium')
        axes.set_xlabel('class')
    for axes in all_axes[:, 0]:
        axes.set_ylabel('class')
    label = 'correlation of the logits,\nstudent − teacher'
    figure.colorbar(image, ax=all_axes.ravel().tolist(), label=label)
    return figure


def class_gains(comparison: Comparison) -> Figure:
    """Gain in top-1 of each student over the reference, for each class."""
    classes, reference = comparison.classes, comparison.reference
    few = len(classes) <= _FEW_CLASSES
    figure = new_figure(10 if few else 8, 4)
    axes = figure.subplots()
    gains = {
        name: np.array([result.gain[name] for result in classes])
        for name in classes[0].gain
        if name != reference
    }
    styles = method_styles(list(comparison.nets))
    if few:
        width = 0.8 / len(gains)
        for i, (name, values) in enumerate(gains.items()):
            positions = np.arange(len(values)) + (i - (len(gains) - 1) / 2) * width
            axes.bar(positions, values, width, color=styles[name].color, label=name)
        names = [result.name for result in classes]
        first = [name.split(',')[0] for name in names]
        if len(set(first)) == len(names) and any(', ' in name for name in names):
            names = first  # without the synonyms of WordNet
        # more characters do not fit side by side
        slant: dict[str, Any] = dict(rotation=40, ha='right') if sum(map(len, names)) > 80 else {}
        axes.set_xticks(np.arange(len(names)), names, **slant)
    else:
        for name, values in gains.items():
            color, dash = styles[name]
            axes.plot(np.sort(values), color=color, linestyle=dash, label=name)
    axes.axhline(0, color='black', linewidth=0.8)
    x = 'class' if few else 'class, sorted by gain'
    finish(axes, x, f'top-1 gain over {reference}, points', legend=False)
    figure.legend(loc='outside upper center', ncols=7, fontsize='small')
    return figure
