"""The shared plot style, and the figures of a run.

matplotlib is imported only when a figure is drawn.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Optional, Union

import numpy as np

from .methods import METHODS
from .stats.estimates import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# distinguishable in print and without color vision
LINE_STYLES = ('-', '--', '-.', ':')
LEGEND_LINE = 3.5  # in ems, long enough to show every dash
_LETTER = 0.075  # width of a small letter, in inches


class Style(NamedTuple):
    """Color and dash of a line; bars use only the color."""

    color: str
    dash: Union[str, tuple]


# the same color and dash for a method in every figure; Okabe and Ito's palette,
# https://jfly.uni-koeln.de/color/
METHOD_STYLES = dict(
    teacher=Style('#777777', '-'),
    ce=Style('#000000', ':'),
    logit=Style('#CC79A7', (0, (1, 1))),
    kd=Style('#0072B2', '--'),
    dist=Style('#009E73', '-.'),
    cor=Style('#B8A800', (0, (5, 1, 1, 1, 1, 1))),
    prkd_a=Style('#E69F00', (0, (5, 1))),
    prkd_b=Style('#56B4E9', (0, (3, 1, 1, 1))),
    prkd=Style('#D55E00', '-'),
    prkd_to_1_16=Style('#F2B48C', (0, (1, 2))),
    prkd_to_1_4=Style('#E58A50', (0, (2, 1))),
    prkd_to_1=Style('#A84300', (0, (7, 2))),
    prkd_to_2=Style('#6B2B00', (0, (7, 1, 1, 1))),
)
# for lines that are not methods, such as checkpoints, or a second run of one method
OTHER_STYLES = tuple(
    Style(f'tab:{color}', dash)
    for color, dash in zip(
        ('brown', 'purple', 'olive', 'cyan', 'pink', 'green', 'blue'), cycle(LINE_STYLES)
    )
)


def method_styles(names: Sequence[str]) -> dict[str, Style]:
    """The style of each name in a figure: methods by key (``kd``) or title (``KD``).

    Each other name gets the next style in :data:`OTHER_STYLES`, so that all lines of a figure
    differ. The style of such a name depends on the names before it.
    """
    keys = {title: key for key, title in METHODS.items()}
    others = cycle(OTHER_STYLES)
    return {name: METHOD_STYLES.get(keys.get(name, name)) or next(others) for name in names}


def new_figure(width: float, height: float) -> 'Figure':
    """Create a figure of a size in inches, with automatic layout of the panels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout='constrained')


def finish(axes: 'Axes', x: str, y: str, legend: bool = True) -> None:
    """Label the axes, and add the grid and the legend."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    if legend:
        axes.legend(fontsize='small', handlelength=LEGEND_LINE)


def legend_below(axes: 'Axes', columns: int) -> None:
    """Place the legend under the axes, for panels without free space."""
    axes.legend(
        fontsize='small',
        handlelength=LEGEND_LINE,
        ncols=columns,
        loc='upper center',
        bbox_to_anchor=(0.5, -0.15),
    )


def legend_columns(labels: Collection[str], width: float) -> int:
    """Number of columns of a small legend with these labels that fit into a width in inches."""
    column = _LETTER * (max(map(len, labels)) + 2 * LEGEND_LINE + 3)  # with the line and the gaps
    return max(1, min(len(labels), int(width / column)))


def bars(
    axes: 'Axes',
    estimates: dict[str, Estimate],
    label: str,
    log: bool = False,
    color: Union[str, list[str]] = 'tab:blue',
) -> None:
    """Draw horizontal bars with error bars, the first on top.

    ``label`` belongs to the x axis. With ``log``, this axis is logarithmic, and there are points
    instead of bars, which would have no zero to start from. ``color`` is one color, or with bars a
    list of one per bar.
    """
    means, errors = zip(*estimates.values())
    positions = np.arange(len(estimates))
    if log:
        axes.errorbar(means, positions, xerr=errors, fmt='o', capsize=2, color=color)
    else:
        axes.barh(positions, means, xerr=errors, capsize=2, color=color)
    axes.set_yticks(positions, list(estimates))
    if not axes.yaxis_inverted():
        axes.invert_yaxis()
    if log:
        axes.set_xscale('log')
        label_log_axis(axes)
    else:
        axes.locator_params(axis='x', nbins=5)
    axes.set_xlabel(label)
    axes.grid(alpha=0.3, axis='x')


def label_log_axis(axes: 'Axes') -> None:
    """Label a logarithmic x axis, on which all is drawn, with few numbers for any range."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,)))
    axes.xaxis.set_major_formatter('{x:g}')
    axes.xaxis.set_minor_formatter(NullFormatter())


def plot_schedules(
    positions: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    path: Union[str, Path],
    totals: Optional[dict[str, Sequence[float]]] = None,
    terms: Optional[dict[str, Sequence[float]]] = None,
) -> None:
    """Draw a run's scheduled temperatures, weights, and strengths, one panel each.

    Args:
        positions: Epochs, the x axis. With one more position than values, the last value extends to
            the last position.
        curves: Scheduled values at those positions, by ``<loss>.<attr>``; those with 'tau' in the
            attribute's name are temperatures.
        path: The picture to write; its suffix is the format.
        totals: Strength of each loss, drawn as thick lines; None if it is unknown.
        terms: Strength of each term, drawn as thin lines.
    """
    panels: dict[str, dict] = {'temperature τ': {}, 'weight': {}}
    for name, values in curves.items():
        is_tau = 'tau' in name.rpartition('.')[2]
        panels['temperature τ' if is_tau else 'weight'][name] = values
    strengths = dict(terms or {})
    strengths.update({f'{name}: sum': values for name, values in (totals or {}).items()})
    panels['strength'] = strengths
    panels = {title: lines for title, lines in panels.items() if lines}

    figure = new_figure(6.4, 1 + 2.2 * len(panels))
    all_axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (title, lines) in zip(all_axes, panels.items()):
        for (name, values), style in zip(lines.items(), cycle(LINE_STYLES)):
            values = [*values, *values[-1:]][: len(positions)]
            width = 2.5 if name.endswith(': sum') else 1.5
            axes.plot(positions, values, style, label=name, drawstyle='steps-post', linewidth=width)
        axes.set_ylabel(title)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
    all_axes[-1].set_xlabel('epoch')
    all_axes[-1].locator_params(axis='x', integer=True)
    figure.savefig(path, dpi=120)


def plot_accuracy(
    curves: dict[str, tuple[dict[int, float], dict[int, float]]],
    path: Union[str, Path],
    labels: Mapping[str, str],
) -> None:
    """Draw top-1 over the epochs: thin for raw weights, thick for averaged weights.

    ``curves`` holds, by name, ``{epoch: percent}`` of the raw weights and of the tail average, and
    ``labels`` the label in the legend. Curves that end below half or above twice the top-1 of the
    best student are not in the range of the y axis; the legend has their values.
    """
    figure = new_figure(6.4, 4.4)
    axes = figure.subplots()
    last = {name: raw[max(raw)] for name, (raw, _) in curves.items()}
    students = [top1 for name, top1 in last.items() if not name.startswith('teacher')]
    best = max(students or last.values())
    styles = method_styles(list(curves))
    shown = []  # determines the y axis
    for name, (raw, averaged) in curves.items():
        place = 'below' if last[name] < best / 2 else 'above' if last[name] > 2 * best else ''
        label = f'{labels[name]} ({place}: {last[name]:.1f} %)' if place else labels[name]
        color, dash = styles[name]
        axes.plot(
            list(raw), list(raw.values()), color=color, linestyle=dash, linewidth=1, label=label
        )
        (line,) = axes.plot(
            list(averaged), list(averaged.values()), color=color, linewidth=3, alpha=0.6
        )
        line.set_marker('o' if len(averaged) == 1 else '')  # one point has no line
        # others would squeeze the curves, as would the start of the training
        if not place:
            shown += [*list(raw.values())[len(raw) // 2 :], *averaged.values()]
    margin = max(1.0, max(shown) - min(shown)) / 4
    axes.set_ylim(min(shown) - margin, min(100.0, max(shown) + margin))
    finish(axes, 'epoch', 'top-1 on the validation set, %', legend=False)
    axes.locator_params(axis='x', integer=True)
    if any(averaged for _, averaged in curves.values()):
        axes.set_title('thin: raw weights; thick: averaged over the tail', fontsize='medium')
    figure.legend(loc='outside lower center', ncols=3, fontsize='small')
    figure.savefig(path, dpi=120)
