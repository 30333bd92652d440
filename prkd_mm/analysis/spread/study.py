"""The spread study from end to end."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Optional

import torch

from ...averaging import trained_weights
from ...checkpoints import plain_state_dict, read
from ...deploy.average import seed_of_run
from ...options import documented, option
from ..batches import load_batches, predict, recalibrate, training_batches
from ..device import choose_device, exact_float32
from ..nets import build_nets, check_class_order, load_weights
from ..output import Report
from ..runs import Run
from ..study_options import StudyOptions, count, split_option
from . import figure, measure
from .measure import RunSpread


@documented
@dataclass(frozen=True)
class SpreadOptions(StudyOptions):
    """Options of the spread study."""

    split: str = split_option('val')
    tail: Optional[int] = option(
        None, 'use the last N epochs', 'as many as the run averages', type=int, metavar='N'
    )
    bn_batches: int = count(100, "training batches for the averages' batch-norm statistics")


@exact_float32()
def run(runs: Sequence[Run], report: Report, options: SpreadOptions) -> dict[str, RunSpread]:
    """How far apart the last checkpoints are, and what averaging them gains.

    The batch-norm statistics of the averages come from the training batches that
    ``TailAverageHook`` uses.

    Raises:
        FileNotFoundError: If a run has fewer than two checkpoints.
        ValueError: If ``tail`` is less than two, or the images have another order of classes.
    """
    # fail on a missing checkpoint before computing
    tails = [run.tail(2, options.tail) for run in runs]
    for run, tail in zip(runs, tails):
        check_class_order(run.cfg, tail.values(), [options.split])
    with report.progress():
        found = {run.title: _examine(run, tail, report, options) for run, tail in zip(runs, tails)}
    rows = _show(found, report)
    by_number = [
        dict(run=title, **average._asdict())
        for title, run in found.items()
        for average in run.by_number
    ]
    numbers = dict(split=options.split, seed=options.seed, runs=found)
    report.save(numbers, {'': rows, '_by_number': by_number}, {'': figure.spread(found)})
    return found


def _examine(run: Run, tail: dict[str, str], report: Report, options: SpreadOptions) -> RunSpread:
    nets = build_nets(run.cfg, choose_device(options.device))
    states, last_epoch = {}, 0
    for label, path in report.track(f'{run.title}: checkpoints')(list(tail.items())):
        checkpoint = read(path)
        states[label] = plain_state_dict(checkpoint)[0]
        last_epoch = checkpoint.get('meta', {}).get('epoch', 1) - 1
    names = trained_weights(nets.student)
    batches = load_batches(
        run.cfg, options.split, nets.preprocess, options.samples, options.batch_size, options.seed
    )
    seed = seed_of_run(checkpoint, run.cfg, options.seed)
    train = training_batches(run.cfg, nets.preprocess, options.bn_batches, seed, last_epoch)
    labels = torch.cat([labels for _, labels in batches]).cpu()
    raw = [
        predict(batches, load_weights(nets.student, path))
        for path in report.track(f'{run.title}: raw students')(list(tail.values()))
    ]
    averaged = measure.averages(
        states,
        nets.student,
        partial(recalibrate, train),
        partial(predict, batches),
        report.track(f'{run.title}: averages'),
    )
    return RunSpread(
        tail,
        measure.disagreement(raw),
        *measure.weight_spread([measure.flat(state, names) for state in states.values()]),
        measure.average_results(averaged, raw, labels),
    )


def _show(found: dict[str, RunSpread], report: Report) -> list[dict]:
    rows = [
        dict(
            run=title,
            checkpoints=len(run.checkpoints),
            variance=run.variance,
            relative_rms=run.relative_rms,
            mean_distance=run.mean_distance,
            disagreement=run.disagreement,
            **run.by_number[-1]._asdict(),
        )
        for title, run in found.items()
    ]
    headings = dict(
        run='',
        checkpoints='n',
        variance='variance',
        relative_rms='rms/norm',
        mean_distance='distance',
        disagreement='disagree',
        raw_top1='raw top-1',
        top1='mean top-1',
        gain='gain',
        gain_error='±',
    )
    report.table('The last checkpoints, and the mean of all of them', rows, headings)
    report.note(
        'variance: summed over the weights; rms/norm: square root of the variance / norm of the '
        'mean; distance, disagree: means over pairs, the latter as a share of the images; '
        'top-1 in %; ±: standard error over the images, for this one training'
    )
    return rows
