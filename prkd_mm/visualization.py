"""One plot style, and the figures of a run.

matplotlib is imported when a figure is drawn, not before.
"""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Union

import numpy as np

# distinguishable in print and without color vision
LINE_STYLES = ('-', '--', '-.', ':')


def new_figure(width: float, height: float):
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout='constrained')


def finish(axes, x: str, y: str, legend: bool = True) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    if legend:
        axes.legend(fontsize='small')


def legend_below(axes, columns: int) -> None:
    """Legend under the axes, for panels without free space."""
    axes.legend(fontsize='small', ncols=columns, loc='upper center', bbox_to_anchor=(0.5, -0.15))


def bars(
    axes, names: Sequence[str], values: Sequence[dict], label: str, log: bool = False, **style
) -> None:
    """Horizontal bars, the first on top, of ``mean`` with its ``error``."""
    places = np.arange(len(names))
    axes.barh(
        places,
        [value['mean'] for value in values],
        xerr=[value['error'] for value in values],
        capsize=2,
        color=style.get('color', 'tab:blue'),
    )
    axes.set_yticks(places, names)
    if not axes.yaxis_inverted():
        axes.invert_yaxis()
    if log:
        axes.set_xscale('log')
    axes.set_xlabel(label)
    axes.grid(alpha=0.3, axis='x')


def plot_schedules(
    positions: Sequence[float], curves: dict[str, Sequence[float]], path: Union[str, Path]
) -> None:
    """Draw scheduled values over a run: temperatures above, weights below.

    Args:
        positions (Sequence[float]): Epochs, the x axis.
        curves (dict): Values at those positions, by ``<loss>.<attr>``; what
            has 'tau' in its name is a temperature.
        path (str | Path): The picture to write; its suffix is the format.
    """
    from matplotlib.figure import Figure

    panels = {'temperature τ': {}, 'weight': {}}
    for name, values in curves.items():
        is_tau = 'tau' in name.rpartition('.')[2]
        panels['temperature τ' if is_tau else 'weight'][name] = values
    panels = {title: lines for title, lines in panels.items() if lines}

    figure = Figure(figsize=(6.4, 1 + 2.2 * len(panels)), layout='constrained')
    all_axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (title, lines) in zip(all_axes, panels.items()):
        for (name, values), style in zip(lines.items(), cycle(LINE_STYLES)):
            axes.plot(positions, values, style, label=name, drawstyle='steps-post')
        axes.set_ylabel(title)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
    all_axes[-1].set_xlabel('epoch')
    figure.savefig(path, dpi=120)


def plot_accuracy(
    curves: dict[str, tuple[dict[int, float], dict[int, float]]], path: Union[str, Path]
) -> None:
    """Draw top-1 over the epochs; thin: raw weights, thick: averaged ones.

    Args:
        curves (dict): By name, ``{epoch: percent}`` of the raw weights and of
            the tail average.
        path (str | Path): The picture to write; its suffix is the format.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout='constrained')
    axes = figure.subplots()
    best = max(list(raw.values())[-1] for raw, _ in curves.values())
    shown = []
    for (name, (raw, averaged)), style in zip(curves.items(), cycle(LINE_STYLES)):
        values = list(raw.values())
        failed = values[-1] < best / 2  # would squeeze all the others
        (line,) = axes.plot(
            list(raw),
            values,
            style,
            linewidth=1,
            label=f'{name} (below: {values[-1]:.1f} %)' if failed else name,
        )
        if averaged:
            axes.plot(
                list(averaged),
                list(averaged.values()),
                color=line.get_color(),
                linewidth=3,
                alpha=0.6,
            )
        if not failed:  # nor is the beginning what matters
            shown += values[len(values) // 2 :] + list(averaged.values())
    margin = max(1.0, max(shown) - min(shown)) / 4
    axes.set_ylim(min(shown) - margin, min(100.0, max(shown) + margin))
    axes.set_xlabel('epoch')
    axes.set_ylabel('top-1 on the validation images, %')
    if any(averaged for _, averaged in curves.values()):
        axes.set_title('thin: raw weights; thick: averaged over the tail', fontsize='medium')
    axes.grid(alpha=0.3)
    figure.legend(loc='outside lower center', ncols=3, fontsize='small')
    figure.savefig(path, dpi=120)
