"""The landscape study from end to end."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, NamedTuple, Optional

import numpy as np

from ...cli import positive_number
from ...options import documented, option
from ...stats.estimates import mean_and_deviation
from ..batches import SPLITS, load_batches, recalibrate, training_batches
from ..device import choose_device, exact_float32
from ..nets import Nets, build_nets, check_class_order, load_weights
from ..output import Report
from ..runs import Run
from ..study_options import StudyOptions, count, weights_option
from . import figure, measure
from .measure import Draw, Surface
from .objective import Objective, Value
from .sharpness import sharpness

_HEADINGS = dict(
    top_eigenvalue='top eigenvalue',
    trace='trace',
    normalized_top_eigenvalue='normalized eigenvalue',
    normalized_trace='normalized trace',
    worst_rise='worst rise',
)


@documented
@dataclass(frozen=True)
class LandscapeOptions(StudyOptions):
    """Options of the landscape study."""

    samples: int = count(
        128, 'number of training images and of validation images, drawn with --seed'
    )
    weights: str = weights_option('latest')
    seeds: int = count(
        3, 'draws of images and directions per training; the first has the seed --seed'
    )
    span: float = option(
        1.0, 'half the length of the curves, in filter norms', type=positive_number
    )
    grid: int = count(9, 'number of points along each axis of a surface', at_least=2)
    radius: float = option(
        0.005, 'radius of the search for the worst loss, in filter norms', type=positive_number
    )
    probes: int = count(10, 'number of random vectors to estimate a trace')
    bn_batches: int = count(
        5, 'training batches for the batch-norm statistics at each point of the plane'
    )


class RunLandscape(NamedTuple):
    """The loss around the students of one run."""

    draws: list[Draw]  # for each training and seed
    surface: Surface  # around the first training
    plane: Optional[Surface]  # through its tail; None if a run has fewer than 3 checkpoints


@exact_float32()
def run(runs: Sequence[Run], report: Report, options: LandscapeOptions) -> dict[str, RunLandscape]:
    """The loss around the students: curves, surfaces, the plane of the tail, sharpness.

    The loss is the cross-entropy with the labels, regardless of the training loss. Curves,
    surfaces and sharpness use the batch-norm statistics of the checkpoint. In the plane of
    the last checkpoints, these are re-estimated at every point, as for averaged weights. If a
    run has fewer than three of them, this is reported and there is no plane.

    Raises:
        FileNotFoundError: If a checkpoint is missing.
        ValueError: If the images have another order of classes.
    """
    paths = {run.title: run.all_weights(options.weights) for run in runs}
    tails = _tails(runs, report)
    for run in runs:
        tail = tails.get(run.title, {})
        check_class_order(run.cfg, [*paths[run.title].values(), *tail.values()], SPLITS)
    with report.progress():
        found = {
            run.title: _examine(run, paths[run.title], tails.get(run.title), options, report)
            for run in runs
        }
    over = f'{options.seeds} draw{"s" if options.seeds > 1 else ""}'
    fewest, most = min(map(len, paths.values())), max(map(len, paths.values()))
    if most > 1:
        trainings = f'{fewest} to {most}' if fewest < most else most
        over = f'{trainings} trainings, with {over} each'
    else:
        over += ' of images and directions, not over trainings'
    sharpness_rows = [
        dict(
            run=title, **{key: measure.sharpness_over_trainings(x.draws, key) for key in _HEADINGS}
        )
        for title, x in found.items()
    ]
    title = f'Sharpness of the train loss, ± standard deviation over {over}'
    report.table(title, sharpness_rows, dict(run='', **_HEADINGS))
    if most > 1 and len(found) > 1:
        _show_differences({title: x.draws for title, x in found.items()}, report)
    _save(found, paths, options, over, report)
    return found


def _show_differences(draws: dict[str, list[Draw]], report: Report) -> None:
    rows = [
        dict(
            run=f'{each.better} − {each.worse}: {_HEADINGS[key]}',
            difference=mean_and_deviation(each.values),
            interval='{:+.3g} to {:+.3g}'.format(*each.interval) if each.interval else '-',
            trainings=len(each.values),
            larger=each.verdict,
        )
        for key in ('normalized_top_eigenvalue', 'normalized_trace')
        for each in measure.sharpness_differences(draws, key)
    ]
    title = 'Paired by training: is the first larger than the second?'
    headings = ('', 'difference', '95 % interval', 'trainings', 'larger')
    report.table(title, rows, dict(zip(rows[0], headings)))


def _tails(runs: Sequence[Run], report: Report) -> dict[str, dict[str, str]]:
    """The first, middle and last checkpoint of each tail; empty if a run has fewer."""
    tails = {}
    for run in runs:
        try:
            tail = list(run.tail(3).items())
        except FileNotFoundError as error:
            report.note(f'No plane of the last checkpoints: {error}', soft_wrap=True)
            return {}
        tails[run.title] = dict([tail[0], tail[len(tail) // 2], tail[-1]])
    return tails


def _examine(
    run: Run,
    checkpoints: dict[int, str],
    tail: Optional[dict[str, str]],
    options: LandscapeOptions,
    report: Report,
) -> RunLandscape:
    nets = build_nets(run.cfg, choose_device(options.device))
    axis = np.linspace(-options.span, options.span, 2 * options.grid - 1).tolist()
    draws = []
    for seed in range(options.seed, options.seed + options.seeds):
        objectives = _objectives(run, nets, seed, options)
        track = report.track(f'{run.title}: curves and sharpness, seed {seed}')
        for training, checkpoint in track(list(checkpoints.items())):
            load_weights(nets.student, checkpoint)
            curve = measure.curve(objectives, seed, axis)
            values = sharpness(objectives['train'], seed, options.radius, options.probes)
            draws.append(Draw(training, checkpoint, seed, curve, values))
    load_weights(nets.student, checkpoints[0])
    objectives = _objectives(run, nets, options.seed, options)
    axis = np.linspace(-options.span, options.span, options.grid).tolist()
    track = report.track(f'{run.title}: surface')
    surface = measure.random_surface(objectives, options.seed, axis, track)
    if tail is None:
        return RunLandscape(draws, surface, None)
    vectors = {}
    for label, path in tail.items():
        load_weights(nets.student, path)
        vectors[label] = objectives['train'].weights
    batches = training_batches(run.cfg, nets.preprocess, options.bn_batches, options.seed)
    track = report.track(f'{run.title}: plane')
    plane = measure.plane_surface(
        objectives, vectors, options.grid, partial(recalibrate, batches), track
    )
    return RunLandscape(draws, surface, plane)


def _objectives(run: Run, nets: Nets, seed: int, options: LandscapeOptions) -> dict[str, Objective]:
    size = options.samples, options.batch_size
    return {
        name: Objective(nets.student, load_batches(run.cfg, split, nets.preprocess, *size, seed))
        for name, split in (('train', 'train'), ('test', 'val'))
    }


def _save(
    found: dict[str, RunLandscape],
    paths: dict[str, dict[int, str]],
    options: LandscapeOptions,
    over: str,
    report: Report,
) -> None:
    planes = {title: x.plane for title, x in found.items() if x.plane}
    rows = dict(
        _curves={title: _curve_rows(x.draws) for title, x in found.items()},
        _sharpness={title: _sharpness_rows(x.draws) for title, x in found.items()},
        _surface={title: _surface_rows(x.surface) for title, x in found.items()},
    )
    if planes:
        rows['_plane'] = {title: _surface_rows(plane) for title, plane in planes.items()}
    numbers = dict(
        checkpoints={title: list(each.values()) for title, each in paths.items()},
        samples=options.samples,
        radius=options.radius,
        sharpness=rows['_sharpness'],
        curves=rows['_curves'],
        surfaces={title: dict(rows=x, marks={}) for title, x in rows['_surface'].items()},
        planes={
            title: dict(
                marks=plane.marks,
                at_marks={label: _columns(x) for label, x in plane.at_marks.items()},
                rows=rows['_plane'][title],
            )
            for title, plane in planes.items()
        },
    )
    tables = {
        key: [dict(run=title, **row) for title, part in runs.items() for row in part]
        for key, runs in rows.items()
    }
    report.save(numbers, tables, _figures(found, planes, options, over))


def _figures(
    found: dict[str, RunLandscape], planes: dict[str, Surface], options: LandscapeOptions, over: str
) -> dict[str, Any]:
    draws = {title: landscape.draws for title, landscape in found.items()}
    surfaces = {title: landscape.surface for title, landscape in found.items()}
    own = "Batch-norm statistics: the net's own"
    figures = dict(
        _curves=figure.curves(draws, f'{own}; band: ± standard deviation over {over}'),
        _surface=figure.random_surfaces(surfaces, f'Two random directions. {own}'),
        _sharpness=figure.sharpness(
            draws,
            f'Train loss on {options.samples} images per draw; radius '
            f'{options.radius:g} filter norms\nbars: mean ± standard deviation over {over}',
        ),
    )
    if planes:
        figures['_plane'] = figure.planes(
            planes,
            'The plane through three of the last checkpoints. Batch-norm statistics: '
            f'{options.bn_batches} training batches at each point',
        )
    return figures


def _columns(values: dict[str, Value]) -> dict[str, float]:
    return {
        f'{split}_{key}': number
        for split, value in values.items()
        for key, number in value._asdict().items()
    }


def _curve_rows(draws: Sequence[Draw]) -> list[dict]:
    return [
        dict(checkpoint=draw.checkpoint, seed=draw.seed, a=a, **_columns(values))
        for draw in draws
        for a, values in draw.curve.items()
    ]


def _sharpness_rows(draws: Sequence[Draw]) -> list[dict]:
    return [
        dict(checkpoint=draw.checkpoint, seed=draw.seed, **draw.sharpness._asdict())
        for draw in draws
    ]


def _surface_rows(surface: Surface) -> list[dict]:
    points = product(surface.a, surface.b)
    return [dict(a=a, b=b, **_columns(x)) for (a, b), x in zip(points, surface.values)]
