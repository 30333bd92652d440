"""What came of a search: tables, a figure, the options to take over."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ...config import METHODS
from ..paired import mean_std
from ..table import Table
from .trials import RANGES, Trial, winner

NOTE = (
    'Top-1 on held-out training images, by which trial, I and batch norm were '
    'chosen: it flatters them. Seed 0, which all trials have, chose the '
    'finalists; whether the winner beats the config is counted over the '
    'other seeds. Of the tail: '
    'means over the seeds of the winner. What is not named stays as in the '
    "config: the weight of the labels' cross entropy, the schedule's shape, "
    'optimizer and learning rate.\n'
)


def average_over_seeds(choices: Sequence[list[dict]]) -> list[dict]:
    """Rows of :func:`~prkd_mm.experiments.tune.tail_choice.tail_choices` of several
    runs as one row each, ``top1`` a list."""
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
    """Write ``tuning.json``, ``tuning.md`` and ``tuning.png``.

    Args:
        folder (Path): Where to.
        found (dict): All trials by method.
        finals (dict): Those with all seeds.
        tails (dict): By method, of :func:`average_over_seeds`.
        protocol (dict): What was done.

    Returns:
        str: What to print.
    """
    winners = {method: winner(final) for method, final in finals.items()}
    own = {
        method: next(trial for trial in final if not trial.number)
        for method, final in finals.items()
    }
    parts = [
        _chosen(winners, own, tails),
        *(_trials(METHODS[method], trials, winners[method]) for method, trials in found.items()),
    ]
    if tails:
        parts.append(_tails(tails))
    parts.append(NOTE)
    told = '\n'.join(f'- {name}: `{value}`' for name, value in protocol.items())
    folder.joinpath('tuning.md').write_text('\n'.join([*parts, told, '']))
    folder.joinpath('tuning.json').write_text(
        json.dumps(
            dict(
                protocol=protocol,
                trials={
                    method: [asdict(trial) for trial in trials] for method, trials in found.items()
                },
                chosen={method: asdict(trial) for method, trial in winners.items()},
                tails=tails,
            ),
            indent=1,
        )
    )
    plot_search(found, winners, folder / 'tuning.png')
    return parts[0]


def _chosen(winners: dict[str, Trial], own: dict[str, Trial], tails: dict[str, list[dict]]) -> str:
    lines = []
    for method, trial in winners.items():
        config = own[method].averaged
        others = list(zip(trial.averaged, config))[1:]
        better = (
            ''
            if not trial.number or not others
            else f'; better with {sum(a > b for a, b in others)} of the '
            f'{len(others)} seeds that did not choose the finalists'
        )
        options = list(trial.options)
        if tails:
            best = best_tail(tails[method])
            for name in ('num_epochs', 'bn'):
                options.append(f'default_hooks.tail_average.{name}={best[name]}')
        lines.append(
            f'{METHODS[method]}: trial {trial.number}, '
            f'{mean_std(trial.averaged)} % (the config as it stands: '
            f'{mean_std(config)} %{better})\n    '
            f'{" ".join(options)}\n'
        )
    return '\n'.join(lines)


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


def best_tail(choices: Sequence[dict]) -> dict:
    """The row of :func:`average_over_seeds` with the best mean."""
    return max(choices, key=lambda row: statistics.fmean(row['top1']))


def _tails(tails: dict[str, list[dict]]) -> str:
    """Mean top-1 for each I (down), method and way with batch norm."""
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


def plot_search(found: dict[str, list[Trial]], winners: dict[str, Trial], path: Path) -> None:
    """Draw the score against each parameter, a row of panels a method.

    Args:
        found (dict): All trials by method.
        winners (dict): The chosen one by method.
        path (Path): The picture to write.
    """
    from matplotlib.figure import Figure

    names = [name for name in RANGES if any(name in trials[0].values for trials in found.values())]
    figure = Figure(figsize=(1 + 2.6 * len(names), 0.5 + 2.6 * len(found)), layout='constrained')
    panels = figure.subplots(len(found), len(names), sharey='row', squeeze=False)
    for row, (method, trials) in zip(panels, found.items()):
        shown = [axes for axes, name in zip(row, names) if name in trials[0].values]
        for axes, name in zip(row, names):
            if axes not in shown:
                axes.set_visible(False)
                continue
            for trial in trials:
                chosen = trial is winners[method]
                axes.errorbar(
                    trial.values[name],
                    trial.score,
                    statistics.stdev(trial.averaged) if len(trial.averaged) > 1 else None,
                    color='tab:red' if chosen else 'tab:blue' if trial.number else 'black',
                    marker='*' if chosen else 'o' if trial.number else 's',
                    markersize=10 if chosen else 5,
                    capsize=2,
                )
            axes.set_xscale('log', base=2)
            axes.xaxis.set_major_formatter('{x:g}')
            axes.grid(alpha=0.3)
            axes.set_xlabel(name)
        shown[0].tick_params(labelleft=True)
        shown[0].set_ylabel(METHODS[method] + ':\naveraged top-1, %')
    figure.suptitle(
        'On held-out training images. Square: the config as it '
        'stood; star: chosen;\nbars: standard deviation over the '
        'seeds',
        fontsize='medium',
    )
    figure.savefig(path, dpi=120)
