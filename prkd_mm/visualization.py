"""Figures. matplotlib is imported when one is drawn, not before."""
from pathlib import Path
from typing import Dict, Sequence, Union


def plot_schedules(positions: Sequence[float],
                   curves: Dict[str, Sequence[float]],
                   path: Union[str, Path],
                   xlabel: str = 'epoch') -> None:
    """Draw scheduled values over a run: temperatures above, weights below.

    Args:
        positions (Sequence[float]): Epochs or iterations, the x axis.
        curves (dict): Values at those positions, by ``<loss>.<attr>``; what
            has 'tau' in its name is a temperature.
        path (str | Path): The picture to write; its suffix is the format.
        xlabel (str): Unit of the positions. Defaults to 'epoch'.
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
        for (name, values), style in zip(lines.items(), _line_styles()):
            axes.plot(
                positions, values, style, label=name, drawstyle='steps-post')
        axes.set_ylabel(title)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
    all_axes[-1].set_xlabel(xlabel)
    figure.savefig(path, dpi=120)


def _line_styles():
    # apart on paper and for eyes that see no colours
    while True:
        yield from ('-', '--', '-.', ':')
