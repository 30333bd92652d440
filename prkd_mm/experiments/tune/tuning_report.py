"""Results of a search: tables, a figure, the options to adopt."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Optional

from ...files import write_json, write_text
from ...methods import METHODS
from ...stats.paired import mean_std
from ...visualization import method_styles, new_figure
from ..table import Table
from .trials import RANGES, Trial, winner

NOTE = (
    'Top-1 on held-out training images. The trial, I and the batch-norm statistics were chosen on '
    'the same images, so the numbers of the chosen ones are too optimistic. The finalists were '
    'chosen by seed 0, which all trials have; the other seeds are used to count how often the '
    'winner is better than the config. I is the number of averaged epochs; its table has means '
    'over the seeds of the winner. All other settings '
    "are those of the config: the weight of the labels' cross entropy, the schedule's shape, the "
    'optimizer and the learning rate.\n'
)


def average_over_seeds(choices: Sequence[list[dict]]) -> list[dict]:
    """Join the rows of :func:`~prkd_mm.experiments.tune.tail_choice.tail_choices` of several runs.

    ``top1`` becomes a list with one number per run.
    """
    rows: dict[tuple[str, int], list[float]] = {}
    for choice in choices:
        for row in choice:
            rows.setdefault((row['bn'], row['num_epochs']), []).append(row['top1'])
    return [dict(bn=bn, num_epochs=number, top1=top1) for (bn, number), top1 in rows.items()]


def write_search(
    folder: Path,
    found: dict[str, list[Trial]],
    finals: dict[str, list[Trial]],
    tails: dict[str, list[dict]],
    protocol: dict[str, str],
) -> str:
    """Write ``tuning.json``, ``tuning.md`` and ``tuning.png``, and return the chosen settings.

    All but the folder are given by method or by name: all trials, those with all seeds, the
    results of :func:`average_over_seeds`, and the protocol of the search.
    """
    winners = {method: winner(final) for method, final in finals.items()}
    chosen = '\n'.join(
        _chosen(winners[method], final, tails.get(method)) for method, final in finals.items()
    )
    parts = [_trials(METHODS[method], trials, winners[method]) for method, trials in found.items()]
    if source := protocol.get('teacher_logits'):
        parts.append(f'Teacher: {source}\n')
    if tails:
        parts.append(_tails(tails))
    lines = [f'- {name}: `{value}`' for name, value in protocol.items()]
    write_text(folder / 'tuning.md', '\n'.join([chosen, *parts, NOTE, *lines, '']))
    numbers = dict(
        protocol=protocol,
        trials={method: [asdict(trial) for trial in trials] for method, trials in found.items()},
        chosen={method: asdict(trial) for method, trial in winners.items()},
        tails=tails,
    )
    write_json(folder / 'tuning.json', numbers, indent=1)
    plot_search(found, winners, folder / 'tuning.png')
    return chosen


def _chosen(trial: Trial, final: Sequence[Trial], tails: Optional[list[dict]]) -> str:
    """The chosen trial of a method, compared with the config, and the options that set it."""
    options = list(trial.options)
    text = f'{METHODS[trial.method]}: trial {trial.number}, {mean_std(trial.averaged)} %'
    config = next(other for other in final if not other.number)
    if trial is config:
        text = f'{METHODS[trial.method]}: the config itself, {mean_std(trial.averaged)} %'
    else:
        text += f' (the config: {mean_std(config.averaged)} %'
        if others := list(zip(trial.averaged, config.averaged))[1:]:  # seed 0 chose the finalists
            text += (
                f'; better with {sum(a > b for a, b in others)} of the {len(others)} seeds that '
                'were not used to choose the finalists'
            )
        text += ')'
    if tails:
        best = max(tails, key=lambda row: statistics.fmean(row['top1']))
        options += [f'default_hooks.tail_average.{key}={best[key]}' for key in ('num_epochs', 'bn')]
        text += f'; with the averaging options below: {mean_std(best["top1"])} %'
    return f'{text}\n    {" ".join(options)}\n'


def _trials(title: str, trials: Sequence[Trial], chosen: Trial) -> str:
    names = sorted(trials[0].values, key=list(RANGES).index)
    header = [title, *names, 'last epoch, %', 'averaged, %', 'seeds']
    rows = []
    for trial in sorted(trials, key=lambda trial: -trial.score):
        name = 'config' if not trial.number else f'trial {trial.number}'
        rows.append(
            [
                f'**{name}**' if trial is chosen else name,
                *(f'{trial.values[name]:g}' for name in names),
                mean_std(trial.last),
                mean_std(trial.averaged),
                str(len(trial.last)),
            ]
        )
    return f'{Table(header, rows).markdown()}\n'


def _tails(tails: dict[str, list[dict]]) -> str:
    """Mean top-1 by I (rows), method and batch-norm statistics (columns)."""
    means = {
        (METHODS[method], row['bn'], row['num_epochs']): f'{statistics.fmean(row["top1"]):.2f}'
        for method, choices in tails.items()
        for row in choices
    }
    columns = list(dict.fromkeys(key[:2] for key in means))
    header = ['I', *(f'{method}, {bn}' for method, bn in columns)]
    rows = [
        [str(number), *(means.get((*column, number), '–') for column in columns)]
        for number in sorted({number for *_, number in means})
    ]
    return f'{Table(header, rows).markdown()}\n'


# markers of trials, in the color of the method
_CONFIG = dict(marker='s', markersize=5)
_OTHER = dict(marker='o', markersize=5, alpha=0.6)
_CHOSEN = dict(marker='*', markersize=12, markeredgecolor='black')


def plot_search(found: dict[str, list[Trial]], winners: dict[str, Trial], path: Path) -> None:
    """Plot the score against each parameter, with one row of panels per method."""
    names = [name for name in RANGES if any(name in trials[0].values for trials in found.values())]
    figure = new_figure(1 + 2.6 * len(names), 0.5 + 2.6 * len(found))
    panels = figure.subplots(len(found), len(names), sharey='row', squeeze=False)
    styles = method_styles(list(found))
    for row, (method, trials) in zip(panels, found.items()):
        shown = [axes for axes, name in zip(row, names) if name in trials[0].values]
        for axes, name in zip(row, names):
            if axes in shown:
                _plot_parameter(axes, name, trials, winners[method], styles[method].color)
            else:
                axes.set_visible(False)
        shown[0].tick_params(labelleft=True)
        shown[0].set_ylabel(f'{METHODS[method]}:\naveraged top-1, %')
    figure.suptitle(
        'Held-out training images. Square: the config; star: the best;\n'
        'bars: standard deviation over the seeds',
        fontsize='medium',
    )
    figure.savefig(path, dpi=120)


def _plot_parameter(axes, name: str, trials: Sequence[Trial], chosen: Trial, color: str) -> None:
    for trial in trials:
        style = _OTHER if trial.number else _CONFIG
        if trial is chosen:
            style = _CHOSEN
        deviation = statistics.stdev(trial.averaged) if len(trial.averaged) > 1 else None
        axes.errorbar(trial.values[name], trial.score, deviation, color=color, capsize=2, **style)
    axes.set_xscale('log', base=2)
    axes.xaxis.set_major_formatter('{x:g}')
    axes.grid(alpha=0.3)
    axes.set_xlabel(name)
