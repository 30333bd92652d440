"""Figure of the spread study."""

from itertools import cycle

import numpy as np

from ...visualization import LINE_STYLES, finish, new_figure


def spread(runs: dict[str, dict]):
    """Accuracy and gain of the mean against I; the tail's scatter.

    Args:
        runs (dict): By name, the numbers that
            :func:`~prkd_mm.analysis.spread.study.spread` collects.
    """
    figure = new_figure(11, 8)
    (top1, gain), (distance, disagreement) = figure.subplots(2, 2)
    colours = [f'C{i % 10}' for i in range(len(runs))]
    for (name, row), colour, style in zip(runs.items(), colours, cycle(LINE_STYLES)):
        x = [r['averaged'] for r in row['by_number']]
        y = [r['top1'] for r in row['by_number']]
        top1.plot(x, y, style, color=colour, linewidth=2.5, label=name)
        top1.plot(
            x,
            [r['raw_top1'] for r in row['by_number']],
            style,
            color=colour,
            linewidth=1,
            marker='.',
            alpha=0.7,
        )
        y = np.array([r['gain'] for r in row['by_number']])
        error = np.array([r['gain_error'] for r in row['by_number']])
        gain.plot(x, y, style, color=colour, linewidth=2)
        gain.fill_between(x, y - error, y + error, color=colour, alpha=0.15)
    finish(top1, 'I, checkpoints averaged', 'top-1, %', False)
    top1.set_title('thick: the mean of the last I students; thin: the raw ones')
    gain.axhline(0, color='black', linewidth=0.8)
    finish(gain, 'I, checkpoints averaged', 'top-1 over the raw ones, points', False)
    gain.set_title('what the average gains (band: ± 1 standard error\nover the images)')
    bars = [
        (distance, 'relative_rms', 'rms distance from the mean / its norm, %'),
        (disagreement, 'disagreement', '% of the images, mean over pairs'),
    ]
    for axes, key, label in bars:
        axes.barh(list(runs), [100 * row[key] for row in runs.values()], color=colours)
        axes.invert_yaxis()
        axes.set_xlabel(label)
        axes.grid(alpha=0.3, axis='x')
    distance.set_title("scatter of the tail's weights")
    disagreement.set_title('pairs of the tail that predict differently')
    figure.legend(loc='outside lower center', ncols=7, fontsize='small')
    return figure
