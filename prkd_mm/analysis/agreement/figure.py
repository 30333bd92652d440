"""Figures of the agreement study."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np

from ...visualization import LINE_STYLES, finish, legend_below, new_figure


def agreement(nets: dict[str, dict]):
    """Reliability diagram, calibration error, and agreement with the teacher.

    Args:
        nets (dict): ``nets`` of
            :func:`~prkd_mm.analysis.agreement.measure.comparison`.
    """
    figure = new_figure(11, 4.8)
    diagram, ece, same = figure.subplots(1, 3, width_ratios=[1.2, 1, 1])
    colours = ['0.4'] + [f'C{i % 10}' for i in range(len(nets) - 1)]
    diagram.plot([0, 1], [0, 1], color='black', linewidth=0.8)
    for (name, row), colour, style in zip(nets.items(), colours, cycle(LINE_STYLES)):
        x, y, share = zip(
            *(
                point
                for point in zip(row['bin_confidence'], row['bin_accuracy'], row['bin_share'])
                if point[2] >= 0.01
            )  # fewer images say nothing
        )
        diagram.plot(x, y, style, color=colour, linewidth=1, label=name)
        # the area is the share of the images
        diagram.scatter(x, y, 400 * np.array(share), color=colour, alpha=0.5)
    finish(diagram, 'confidence (largest probability)', 'accuracy', False)
    legend_below(diagram, 3)
    diagram.set_title('reliability; area: share of the images')
    ece.barh(list(nets), [100 * row['ece'] for row in nets.values()], color=colours)
    ece.set_xlabel('expected calibration error, points')
    ece.set_title('calibration')
    students = [name for name in nets if name != 'teacher']
    places = np.arange(len(students))
    for key, label, offset in (
        ('top1', 'on all images', -0.2),
        ('top1_on_errors', 'where it errs', 0.2),
    ):
        same.barh(
            places + offset,
            [np.nan if nets[name][key] is None else nets[name][key] for name in students],
            0.4,
            label=label,
        )
    same.set_yticks(places, students)
    same.set_xlabel('same top-1, % of the images')
    same.set_title('agreement with the teacher')
    legend_below(same, 2)
    for axes in (ece, same):
        axes.invert_yaxis()
        axes.grid(alpha=0.3, axis='x')
    return figure


def correlation_maps(maps: dict[str, np.ndarray]):
    """Student's less teacher's class correlation, a map a student.

    Args:
        maps (dict): By name, ``(C, C)``.
    """
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
    figure.colorbar(
        image,
        ax=all_axes.ravel().tolist(),
        label='correlation of the logits,\nstudent less teacher',
    )
    return figure


def class_gains(rows: list[dict], names: Sequence[str], reference: str):
    """Each class's gain in top-1 over the reference, per student.

    Args:
        rows (list[dict]): ``classes`` of
            :func:`~prkd_mm.analysis.agreement.measure.comparison`.
        names (Sequence[str]): The students.
        reference (str): What the gains refer to; not shown.
    """
    few = len(rows) <= 30
    figure = new_figure(10 if few else 8, 4)
    axes = figure.subplots()
    shown = [name for name in names if name != reference]
    width = 0.8 / len(shown)
    for i, (name, style) in enumerate(zip(shown, cycle(LINE_STYLES))):
        gains = np.array([row[f'gain {name}'] for row in rows])
        colour = f'C{names.index(name) % 10}'
        if few:
            axes.bar(
                np.arange(len(rows)) + (i - (len(shown) - 1) / 2) * width,
                gains,
                width,
                color=colour,
                label=name,
            )
        else:
            axes.plot(np.sort(gains), style, color=colour, label=name)
    axes.axhline(0, color='black', linewidth=0.8)
    if few:
        labels = [row['class'].split(',')[0] for row in rows]  # no synonyms
        long = sum(map(len, labels)) > 80
        axes.set_xticks(
            np.arange(len(rows)), labels, rotation=40 * long, ha='right' if long else 'center'
        )
    finish(axes, 'class' if few else 'class, by its gain', f'top-1 over {reference}, points', False)
    figure.legend(loc='outside upper center', ncols=7, fontsize='small')
    return figure
