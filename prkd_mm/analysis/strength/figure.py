"""Figure of the strength study."""

from itertools import cycle

import numpy as np

from ...estimates import Estimate
from ...visualization import LINE_STYLES, bars, finish, legend_below, new_figure


def strength(schemes: dict[str, dict], along: dict[str, dict], title: str):
    """Six panels: curvature at the match, gradients, and both over a run.

    Args:
        schemes (dict): By name, :func:`~prkd_mm.analysis.strength.measure.summary`
            with ``without_tau2`` beside.
        along (dict): By run, ``epochs``, ``strength``, the ``parts`` it
            consists of, and ``gradients`` by epoch.
        title (str): Over it all.
    """
    figure = new_figure(11, 12)
    figure.suptitle(title)
    (spectrum, curvature), (gradient, share), (run, tail) = figure.subplots(3, 2)
    rows = list(schemes.values())
    for (name, row), style in zip(schemes.items(), cycle(LINE_STYLES)):
        # what lies below is rounding noise of free directions
        values = np.array(row['spectrum'])
        values[values < 1e-9 * values[0]] = np.nan
        spectrum.semilogy(np.arange(1, len(values) + 1), values, style, marker='.', label=name)
    finish(
        spectrum, 'direction in the logits, by its curvature', 'curvature at the match, τ² included'
    )
    spectrum.set_title('(a) Hessian eigenvalues, mean over the samples')

    bars(
        curvature,
        {name: Estimate(**row['strength']) for name, row in schemes.items()},
        'mean curvature a direction (trace / C), τ² included',
        log=True,
    )
    curvature.plot(
        [row['without_tau2'] for row in rows],
        np.arange(len(rows)),
        'D',
        color='black',
        markersize=4,
    )
    curvature.set_title('(a) strength at the match; ◆: without τ²')
    bars(
        gradient,
        {name: Estimate(**row['gradient_norm']) for name, row in schemes.items()},
        "gradient norm in a sample's logits, τ² included",
        log=True,
    )
    gradient.set_title('(b) gradient on the trained student')
    bars(
        share,
        {name: Estimate(**_times(row['small_class_share'], 100)) for name, row in schemes.items()},
        '% of the gradient (sum of sizes)',
    )
    share.set_xlim(0, 100)
    share.set_title('(b) on classes that the teacher gives less than 1/C')

    for (name, row), colour, style in zip(
        along.items(), cycle(f'C{i}' for i in range(10)), cycle(LINE_STYLES)
    ):
        run.plot(row['epochs'], row['strength'], style, color=colour, linewidth=2.5, label=name)
        if len(row['parts']) > 1:
            for (part, values), thin in zip(row['parts'].items(), cycle(LINE_STYLES[1:])):
                run.plot(
                    row['epochs'], values, thin, color=colour, linewidth=1, label=f'{name}: {part}'
                )
        if row['gradients']:
            tail.errorbar(
                list(row['gradients']),
                [value['mean'] for value in row['gradients'].values()],
                [value['error'] for value in row['gradients'].values()],
                color=colour,
                linestyle=style,
                marker='.',
                capsize=2,
                label=name,
            )
    finish(run, 'epoch, from 0', 'mean curvature, all weights included', False)
    if along:
        legend_below(run, 2)
    run.set_ylim(bottom=0)
    run.set_title("(c) strength of the run's own loss at the match")
    finish(tail, 'N of epoch_N.pth', 'gradient norm, all weights included', False)
    if any(row['gradients'] for row in along.values()):
        legend_below(tail, 2)
    tail.set_yscale('log')
    tail.set_title("(c) its gradient on the run's own students")
    return figure


def _times(value: dict, factor: float) -> dict:
    return {key: factor * x for key, x in value.items()}
