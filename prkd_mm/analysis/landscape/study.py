"""The loss landscape from end to end: load, compute, print, draw, write."""

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import product
from typing import Callable, Optional

import numpy as np
from torch import nn

from ...batch_norm import recalibrate_bn
from ..batches import load_batches, training_batches
from ..device import exact_float32
from ..nets import Nets, build_nets, load_weights
from ..output import Report
from ..runs import Run
from . import figure
from . import measure as around
from .measure import Objective

_SECOND = 1_000_003  # seed of the second direction, less that of the first


@exact_float32()
def landscape(
    runs: Sequence[Run],
    report: Report,
    samples: int = 128,
    weights: str = 'latest',
    seed: int = 0,
    seeds: int = 3,
    span: float = 1.0,
    grid: int = 9,
    radius: float = 0.005,
    probes: int = 10,
    bn_batches: int = 5,
    batch_size: Optional[int] = None,
    device='cpu',
) -> dict:
    """The loss round each student; see :mod:`prkd_mm.analysis.landscape.measure`.

    The loss is the cross entropy of the labels, whatever the student was
    trained with, in float32. Curves, surfaces and sharpness leave the
    batch-norm statistics as the checkpoint has them; in the plane of the tail
    they are recalibrated at every point, as those of an average are.

    Curves and sharpness are of all trainings that a run has; surface and
    plane of the first.

    Args:
        runs (Sequence[Run]): Side by side.
        report (Report): Where the numbers go.
        samples (int): Images of train (un-augmented) and of test, each; drawn
            anew for each seed. Defaults to 128.
        weights (str): 'latest' or 'average'. Defaults to 'latest'.
        seed (int): Of the first draw. Defaults to 0.
        seeds (int): Draws of images and directions for each training.
            Defaults to 3.
        span (float): Of the curves, in filters' norms. Defaults to 1.
        grid (int): Points along each axis of a surface. Defaults to 9.
        radius (float): Of the worst loss. Defaults to 0.005.
        probes (int): Of a trace. Defaults to 10.
        bn_batches (int): Training batches for the plane. Defaults to 5.
        batch_size (int, optional): Defaults to None: that of validation.
        device (str | torch.device): Defaults to 'cpu'.

    Returns:
        dict: By title, ``sharpness`` and ``curves``, a row for each training
        and draw (and point); ``surfaces`` and ``planes`` with their ``marks``
        and ``rows``; as in ``landscape.json``. ``planes`` is empty if a run
        has kept no three checkpoints, which is told.

    Raises:
        FileNotFoundError: A checkpoint is not there.
    """
    paths = {run.title: run.all_weights(weights) for run in runs}
    trainings = max(map(len, paths.values()))
    draw = f'{seeds} draw{"s" * (seeds > 1)}'
    over = (
        f'{trainings} trainings, with {draw} each'
        if trainings > 1
        else f'{draw} of images and directions, not over trainings'
    )
    tails = _tails(runs, report)
    curves, rows, surfaces, planes = {}, {}, {}, {}
    with report.progress():
        for run in runs:
            title, nets = run.title, build_nets(run.cfg, device)
            draws = _Draws(
                nets.student,
                paths[title],
                range(seed, seed + seeds),
                partial(_objectives, run, nets, samples, batch_size),
            )
            curves[title] = _curves(draws, span, 2 * grid - 1, report.track(f'{title}: curves'))
            rows[title] = _sharpness(draws, radius, probes, report.track(f'{title}: sharpness'))
            first = draws.loaded(*draws.places[0])
            surfaces[title] = _surface(first, seed, span, grid, report.track(f'{title}: surface'))
            if tails:
                batches = training_batches(run.cfg, nets.preprocess, bn_batches, seed)
                planes[title] = _plane(
                    first, tails[title], grid, batches, report.track(f'{title}: plane')
                )
    measures = {title: mean_std(values) for title, values in rows.items()}
    report.table(
        f'Sharpness of the train loss, ± standard deviation over {over}',
        [{'run': title, **values} for title, values in measures.items()],
        dict(
            run='',
            top_eigenvalue='top eigenvalue',
            trace='trace',
            normalised_top_eigenvalue='normalised eigenvalue',
            normalised_trace='normalised trace',
            worst_rise='worst rise',
        ),
    )
    pictures = {
        '_curves': figure.curves(
            {title: _bands(found) for title, found in curves.items()},
            f"The batch-norm statistics stay the net's own; band: ± standard deviation over {over}",
        ),
        '_surface': figure.surfaces(
            surfaces,
            "Two random directions; the batch-norm statistics stay the net's own",
            "direction 1, in filters' norms",
            "direction 2, in filters' norms",
        ),
        '_sharpness': figure.sharpness(
            measures,
            f'Train loss on {samples} images a draw; radius '
            f"{radius:g} filters' norms\nbars: mean ± standard deviation "
            f'over {over}',
        ),
    }
    tables = {
        '_curves': _table(curves),
        '_sharpness': _table(rows),
        '_surface': _table({k: x['rows'] for k, x in surfaces.items()}),
    }
    if planes:
        pictures['_plane'] = figure.surfaces(
            planes,
            'The plane through three checkpoints of the tail; at each '
            f'point batch-norm statistics of {bn_batches} training batches',
            'distance of the weights',
            'distance of the weights',
            one_scale=False,
        )
        tables['_plane'] = _table({k: x['rows'] for k, x in planes.items()})
    numbers = dict(
        checkpoints=paths,
        samples=samples,
        radius=radius,
        sharpness=rows,
        curves=curves,
        surfaces=surfaces,
        planes=planes,
    )
    report.save(numbers, tables, pictures)
    return numbers


def _tails(runs: Sequence[Run], report: Report) -> dict[str, dict[str, str]]:
    """The first, middle and last checkpoint of each tail; else nothing."""
    tails = {}
    for run in runs:
        try:
            tail = list(run.tail(3).items())
        except FileNotFoundError as error:
            report.console.print(f'No plane of the tail: {error}', highlight=False, soft_wrap=True)
            return {}
        tails[run.title] = dict([tail[0], tail[len(tail) // 2], tail[-1]])
    return tails


def _objectives(
    run: Run, nets: Nets, samples: int, batch_size: Optional[int], seed: int
) -> dict[str, Objective]:
    return {
        name: Objective(
            nets.student, load_batches(run.cfg, split, nets.preprocess, samples, batch_size, seed)
        )
        for name, split in (('train', 'train'), ('test', 'val'))
    }


class _Draws:
    """The trainings to look at, each with the images of each seed.

    Attributes:
        places (list): Of ``(seed, checkpoint)``, seed by seed, since the
            images of one at a time are held.
    """

    def __init__(
        self,
        net: nn.Module,
        checkpoints: Sequence[str],
        seeds: Sequence[int],
        objectives: Callable[[int], dict[str, Objective]],
    ) -> None:
        self.net = net
        self.places = list(product(seeds, checkpoints))
        self._objectives = lru_cache(maxsize=1)(objectives)

    def loaded(self, seed: int, checkpoint: str) -> dict[str, Objective]:
        load_weights(self.net, checkpoint)
        return self._objectives(seed)


def _curves(draws: _Draws, span: float, points: int, progress) -> list[dict]:
    rows = []
    at = np.linspace(-span, span, points).tolist()
    for seed, checkpoint in progress(draws.places):
        pair = draws.loaded(seed, checkpoint)
        direction = around.random_direction(pair['train'], seed)
        found = around.surface(pair, pair['train'].weights, [direction], [(a,) for a in at])
        rows += [dict(checkpoint=checkpoint, seed=seed, a=a, **row) for a, row in zip(at, found)]
    return rows


def _sharpness(draws: _Draws, radius: float, probes: int, progress) -> list[dict]:
    return [
        dict(
            checkpoint=checkpoint,
            seed=seed,
            **_sharpness_of(draws.loaded(seed, checkpoint)['train'], seed, radius, probes),
        )
        for seed, checkpoint in progress(draws.places)
    ]


def _sharpness_of(objective: Objective, seed: int, radius: float, probes: int) -> dict[str, float]:
    scale, result = objective.filter_norms(), {}
    for prefix, s in (('', None), ('normalised_', scale)):
        result[f'{prefix}top_eigenvalue'] = around.top_eigenvalue(objective, s, seed)
        estimate = around.trace(objective, s, seed, probes)
        result[f'{prefix}trace'] = estimate['mean']
        result[f'{prefix}trace_error'] = estimate['error']
    loss = objective.value()['loss']
    worst = around.worst_loss(objective, radius, scale, seed)
    return dict(
        result,
        loss=loss,
        worst_loss=worst,
        worst_rise=worst - loss,
        weight_norm=objective.weights.norm().item(),
    )


def mean_std(rows: list[dict], keys: Sequence[str] = tuple(figure.MEASURES)) -> dict[str, dict]:
    """Over the trainings, of their means; of one training over its draws.

    Args:
        rows (list[dict]): With ``checkpoint``, and numbers by key.
        keys (Sequence[str]): Defaults to the measures of sharpness.

    Returns:
        dict: By key ``mean`` and ``error``, the standard deviation (n − 1);
        NaN of one number.
    """
    found = {}
    for key in keys:
        of = defaultdict(list)
        for row in rows:
            of[row['checkpoint']].append(row[key])
        values = list(map(np.mean, of.values())) if len(of) > 1 else next(iter(of.values()))
        found[key] = dict(
            mean=float(np.mean(values)),
            error=float(np.std(values, ddof=1)) if len(values) > 1 else np.nan,
        )
    return found


def _bands(rows: list[dict]) -> list[dict]:
    keys = [f'{split}_loss' for split in figure.SPLITS]
    return [
        dict(a=a, **mean_std([row for row in rows if row['a'] == a], keys))
        for a in sorted({row['a'] for row in rows})
    ]


def _surface(pair: dict[str, Objective], seed: int, span: float, grid: int, progress) -> dict:
    directions = [around.random_direction(pair['train'], s) for s in (seed, seed + _SECOND)]
    axis = np.linspace(-span, span, grid).tolist()
    points = list(product(axis, axis))
    found = around.surface(pair, pair['train'].weights, directions, points, progress=progress)
    return dict(rows=_with_places(points, found), marks={})


def _plane(pair: dict[str, Objective], tail: dict[str, str], grid: int, batches, progress) -> dict:
    vectors, net = [], pair['train'].net
    for path in tail.values():
        load_weights(net, path)
        vectors.append(pair['train'].weights)
    directions, places = around.plane(vectors)
    marks = dict(zip(tail, places), mean=np.mean(places, 0).tolist())
    axes = []
    for x in zip(*places):
        margin = (max(x) - min(x)) / 2
        axes.append(np.linspace(min(x) - margin, max(x) + margin, grid).tolist())
    # the marked ones first: their own values are worth having
    points = list(marks.values()) + list(product(*axes))
    found = around.surface(
        pair,
        vectors[0],
        directions,
        points,
        lambda net: recalibrate_bn(net, (inputs for inputs, _ in batches)),
        progress,
    )
    return dict(
        marks=marks,
        at_marks=dict(zip(marks, found)),
        rows=_with_places(points[len(marks) :], found[len(marks) :]),
    )


def _with_places(points, found: list[dict]) -> list[dict]:
    return [dict(a=a, b=b, **row) for (a, b), row in zip(points, found)]


def _table(runs: dict[str, list[dict]]) -> list[dict]:
    return [dict(run=title, **row) for title in runs for row in runs[title]]
