"""Pictures of what the analyses found: numbers in, a figure out.

matplotlib is imported when one is drawn, not before.
"""
from itertools import cycle
from typing import Dict, List, Sequence

import numpy as np

_STYLES = ('-', '--', '-.', ':')  # apart on paper, too


def _figure(width: float, height: float):
    from matplotlib.figure import Figure
    return Figure(figsize=(width, height), layout='constrained')


def _finish(axes, x: str, y: str, legend: bool = True) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    if legend:
        axes.legend(fontsize='small')


def _legend_below(axes, columns: int) -> None:
    """For panels with lines or bars everywhere."""
    axes.legend(fontsize='small', ncols=columns, loc='upper center',
                bbox_to_anchor=(0.5, -0.15))


def _bars(axes, names: Sequence[str], values: Sequence[dict], label: str,
          log: bool = False, **style) -> None:
    """Horizontal bars, the first on top, of ``mean`` with its ``error``."""
    places = np.arange(len(names))
    axes.barh(
        places, [value['mean'] for value in values],
        xerr=[value['error'] for value in values],
        capsize=2, color=style.get('color', 'tab:blue'))
    axes.set_yticks(places, names)
    if not axes.yaxis_inverted():
        axes.invert_yaxis()
    if log:
        axes.set_xscale('log')
    axes.set_xlabel(label)
    axes.grid(alpha=0.3, axis='x')


def strength(schemes: Dict[str, dict], along: Dict[str, dict],
             title: str):
    """Six panels: curvature at the match, gradients, and both over a run.

    Args:
        schemes (dict): By name, :func:`~prkd_mm.analysis.strength.measure.summary`
            with ``without_tau2`` beside.
        along (dict): By run, ``epochs``, ``strength``, the ``parts`` it
            consists of, and ``gradients`` by epoch.
        title (str): Over it all.
    """
    figure = _figure(11, 12)
    figure.suptitle(title)
    (spectrum, curvature), (gradient, share), (run, tail) = figure.subplots(
        3, 2)
    names, rows = list(schemes), list(schemes.values())
    for (name, row), style in zip(schemes.items(), cycle(_STYLES)):
        # what lies below is rounding noise of free directions
        values = np.array(row['spectrum'])
        values[values < 1e-9 * values[0]] = np.nan
        spectrum.semilogy(
            np.arange(1, len(values) + 1), values, style, marker='.',
            label=name)
    _finish(spectrum, 'direction in the logits, by its curvature',
            'curvature at the match, τ² included')
    spectrum.set_title('(a) Hessian eigenvalues, mean over the samples')

    _bars(curvature, names, [row['strength'] for row in rows],
          'mean curvature a direction (trace / C), τ² included', log=True)
    curvature.plot([row['without_tau2'] for row in rows],
                   np.arange(len(rows)), 'D', color='black', markersize=4)
    curvature.set_title('(a) strength at the match; ◆: without τ²')
    _bars(gradient, names, [row['gradient_norm'] for row in rows],
          'gradient norm in a sample\'s logits, τ² included', log=True)
    gradient.set_title('(b) gradient on the trained student')
    _bars(share, names, [_times(row['small_class_share'], 100)
                         for row in rows],
          '% of the gradient (sum of sizes)')
    share.set_xlim(0, 100)
    share.set_title('(b) on classes that the teacher gives less than 1/C')

    for (name, row), colour, style in zip(
            along.items(), cycle(f'C{i}' for i in range(10)), cycle(_STYLES)):
        run.plot(row['epochs'], row['strength'], style, color=colour,
                 linewidth=2.5, label=name)
        if len(row['parts']) > 1:
            for (part, values), thin in zip(row['parts'].items(),
                                            cycle(_STYLES[1:])):
                run.plot(row['epochs'], values, thin, color=colour,
                         linewidth=1, label=f'{name}: {part}')
        if row['gradients']:
            tail.errorbar(
                list(row['gradients']),
                [value['mean'] for value in row['gradients'].values()],
                [value['error'] for value in row['gradients'].values()],
                color=colour, linestyle=style, marker='.', capsize=2,
                label=name)
    _finish(run, 'epoch, from 0', 'mean curvature, all weights included',
            False)
    if along:
        _legend_below(run, 2)
    run.set_ylim(bottom=0)
    run.set_title('(c) strength of the run\'s own loss at the match')
    _finish(tail, 'N of epoch_N.pth', 'gradient norm, all weights included',
            False)
    if any(row['gradients'] for row in along.values()):
        _legend_below(tail, 2)
    tail.set_yscale('log')
    tail.set_title('(c) its gradient on the run\'s own students')
    return figure


def _times(value: dict, factor: float) -> dict:
    return {key: factor * x for key, x in value.items()}


def spread(runs: Dict[str, dict]):
    """Accuracy and gain of the mean against I; the tail's scatter.

    Args:
        runs (dict): By name, the numbers that
            :func:`~prkd_mm.analysis.spread.study.spread` collects.
    """
    figure = _figure(11, 8)
    (top1, gain), (distance, disagreement) = figure.subplots(2, 2)
    colours = [f'C{i % 10}' for i in range(len(runs))]
    for (name, row), colour, style in zip(runs.items(), colours,
                                          cycle(_STYLES)):
        x = [r['averaged'] for r in row['by_number']]
        y = [r['top1'] for r in row['by_number']]
        top1.plot(x, y, style, color=colour, linewidth=2.5, label=name)
        top1.plot(x, [r['raw_top1'] for r in row['by_number']], style,
                  color=colour, linewidth=1, marker='.', alpha=0.7)
        y = np.array([r['gain'] for r in row['by_number']])
        error = np.array([r['gain_error'] for r in row['by_number']])
        gain.plot(x, y, style, color=colour, linewidth=2)
        gain.fill_between(x, y - error, y + error, color=colour, alpha=0.15)
    _finish(top1, 'I, checkpoints averaged', 'top-1, %', False)
    top1.set_title('thick: the mean of the last I students; thin: the raw '
                   'ones')
    gain.axhline(0, color='black', linewidth=0.8)
    _finish(gain, 'I, checkpoints averaged',
            'top-1 over the raw ones, points', False)
    gain.set_title('what the average gains (band: ± 1 standard error\n'
                   'over the images)')
    bars = [
        (distance, 'relative_rms', 'rms distance from the mean / its norm, %'),
        (disagreement, 'disagreement', '% of the images, mean over pairs')]
    for axes, key, label in bars:
        axes.barh(list(runs), [100 * row[key] for row in runs.values()],
                  color=colours)
        axes.invert_yaxis()
        axes.set_xlabel(label)
        axes.grid(alpha=0.3, axis='x')
    distance.set_title('scatter of the tail\'s weights')
    disagreement.set_title('pairs of the tail that predict differently')
    figure.legend(loc='outside lower center', ncols=7, fontsize='small')
    return figure


def agreement(nets: Dict[str, dict]):
    """Reliability diagram, calibration error, and agreement with the teacher.

    Args:
        nets (dict): ``nets`` of
            :func:`~prkd_mm.analysis.agreement.measure.comparison`.
    """
    figure = _figure(11, 4.8)
    diagram, ece, same = figure.subplots(1, 3, width_ratios=[1.2, 1, 1])
    colours = ['0.4'] + [f'C{i % 10}' for i in range(len(nets) - 1)]
    diagram.plot([0, 1], [0, 1], color='black', linewidth=0.8)
    for (name, row), colour, style in zip(nets.items(), colours,
                                          cycle(_STYLES)):
        x, y, share = zip(*(point for point in zip(
            row['bin_confidence'], row['bin_accuracy'], row['bin_share'])
            if point[2] >= 0.01))  # fewer images say nothing
        diagram.plot(x, y, style, color=colour, linewidth=1, label=name)
        # the area is the share of the images
        diagram.scatter(x, y, 400 * np.array(share), color=colour, alpha=0.5)
    _finish(diagram, 'confidence (largest probability)', 'accuracy', False)
    _legend_below(diagram, 3)
    diagram.set_title('reliability; area: share of the images')
    ece.barh(list(nets), [100 * row['ece'] for row in nets.values()],
             color=colours)
    ece.set_xlabel('expected calibration error, points')
    ece.set_title('calibration')
    students = [name for name in nets if name != 'teacher']
    places = np.arange(len(students))
    for key, label, offset in (('top1', 'on all images', -0.2),
                               ('top1_on_errors', 'where it errs', 0.2)):
        same.barh(places + offset,
                  [np.nan if nets[name][key] is None else nets[name][key]
                   for name in students], 0.4, label=label)
    same.set_yticks(places, students)
    same.set_xlabel('same top-1, % of the images')
    same.set_title('agreement with the teacher')
    _legend_below(same, 2)
    for axes in (ece, same):
        axes.invert_yaxis()
        axes.grid(alpha=0.3, axis='x')
    return figure


def correlation_maps(maps: Dict[str, np.ndarray]):
    """Student's less teacher's class correlation, a map a student.

    Args:
        maps (dict): By name, ``(C, C)``.
    """
    columns = min(len(maps), 4)
    rows = -(-len(maps) // columns)
    figure = _figure(1.5 + 3.2 * columns, 0.5 + 3.2 * rows)
    limit = max(np.abs(x).max() for x in maps.values()) or 1.
    all_axes = figure.subplots(rows, columns, squeeze=False)
    for axes in all_axes.flat[len(maps):]:
        axes.set_visible(False)
    for axes, (name, x) in zip(all_axes.flat, maps.items()):
        image = axes.imshow(x, cmap='RdBu_r', vmin=-limit, vmax=limit)
        axes.set_title(f'{name}: mean |difference| {np.abs(x).mean():.3f}',
                       fontsize='medium')
        axes.set_xlabel('class')
    for axes in all_axes[:, 0]:
        axes.set_ylabel('class')
    figure.colorbar(
        image, ax=all_axes.ravel().tolist(),
        label='correlation of the logits,\nstudent less teacher')
    return figure


def class_gains(rows: List[dict], names: Sequence[str], reference: str):
    """Each class's gain in top-1 over the reference, per student.

    Args:
        rows (list[dict]): ``classes`` of
            :func:`~prkd_mm.analysis.agreement.measure.comparison`.
        names (Sequence[str]): The students.
        reference (str): What the gains refer to; not shown.
    """
    few = len(rows) <= 30
    figure = _figure(10 if few else 8, 4)
    axes = figure.subplots()
    shown = [name for name in names if name != reference]
    width = 0.8 / len(shown)
    for i, (name, style) in enumerate(zip(shown, cycle(_STYLES))):
        gains = np.array([row[f'gain {name}'] for row in rows])
        colour = f'C{names.index(name) % 10}'
        if few:
            axes.bar(np.arange(len(rows)) + (i - (len(shown) - 1) / 2) * width,
                     gains, width, color=colour, label=name)
        else:
            axes.plot(np.sort(gains), style, color=colour, label=name)
    axes.axhline(0, color='black', linewidth=0.8)
    if few:
        labels = [row['class'].split(',')[0] for row in rows]  # no synonyms
        long = sum(map(len, labels)) > 80
        axes.set_xticks(np.arange(len(rows)), labels, rotation=40 * long,
                        ha='right' if long else 'center')
    _finish(axes, 'class' if few else 'class, by its gain',
            f'top-1 over {reference}, points', False)
    figure.legend(loc='outside upper center', ncols=7, fontsize='small')
    return figure
