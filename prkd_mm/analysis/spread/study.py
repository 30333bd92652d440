"""The spread analysis from end to end: load, compute, print, draw, write."""

from collections.abc import Sequence
from functools import partial
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from ...checkpoints import plain_state_dict, read
from ..batches import load_batches, predict, recalibrate, training_batches
from ..device import exact_float32
from ..nets import build_nets, load_weights
from ..output import Report
from ..runs import Run
from . import figure
from . import measure as scatter


@exact_float32()
def spread(
    runs: Sequence[Run],
    report: Report,
    samples: Optional[int] = None,
    split: str = 'val',
    tail: Optional[int] = None,
    bn_batches: int = 100,
    seed: int = 0,
    batch_size: Optional[int] = None,
    device='cpu',
) -> dict:
    """Where averaging the tail pays; see :mod:`prkd_mm.analysis.spread.measure`.

    The averages' batch-norm statistics come from the training batches that
    ``TailAverageHook`` would take.

    Args:
        runs (Sequence[Run]): With at least two checkpoints each.
        report (Report): Where the numbers go.
        samples (int, optional): Images to predict. Defaults to None: all.
        split (str): 'val' or 'train' (un-augmented). Defaults to 'val'.
        tail (int, optional): Look at that many last epochs. Defaults to
            None: as many as the run averages.
        bn_batches (int): Defaults to 100.
        seed (int): Draws the images, where ``samples`` is given. Defaults
            to 0.
        batch_size (int, optional): Defaults to None: that of validation.
        device (str | torch.device): Defaults to 'cpu'.

    Returns:
        dict: ``runs`` by title: :func:`~prkd_mm.analysis.spread.measure.weight_spread`
        and ``disagreement`` of the checkpoints; ``by_number`` of averaged
        students top-1 and gain; as in ``spread.json``.

    Raises:
        FileNotFoundError: A run has fewer than two checkpoints.
        ValueError: ``tail`` is less than two.
    """
    # all there, before any compute
    tails = [run.tail(2, tail) for run in runs]
    with report.progress():
        found = {
            run.title: _of_run(
                run, tail, report, samples, split, bn_batches, seed, batch_size, device
            )
            for run, tail in zip(runs, tails)
        }
    rows = _show(found, report)
    numbers = dict(split=split, seed=seed, runs=found)
    report.save(
        numbers,
        {
            '': rows,
            '_by_number': [
                dict(run=title, **row) for title in found for row in found[title]['by_number']
            ],
        },
        {'': figure.spread(found)},
    )
    return numbers


def _of_run(
    run: Run,
    tail: dict[str, str],
    report: Report,
    samples: Optional[int],
    split: str,
    bn_batches: int,
    seed: int,
    batch_size: Optional[int],
    device,
) -> dict:
    nets = build_nets(run.cfg, device)
    states, last_epoch = {}, 0
    for label, path in report.track(f'{run.title}: checkpoints')(list(tail.items())):
        checkpoint = read(path)
        states[label] = plain_state_dict(checkpoint)[0]
        last_epoch = checkpoint.get('meta', {}).get('epoch', 1) - 1
    names = [name for name, p in nets.student.named_parameters() if p.requires_grad]
    batches = load_batches(run.cfg, split, nets.preprocess, samples, batch_size, seed)
    train = training_batches(
        run.cfg,
        nets.preprocess,
        bn_batches,
        run.cfg.get('randomness', {}).get('seed') or seed,
        last_epoch,
    )
    labels = torch.cat([labels for _, labels in batches]).cpu()
    classes_of = partial(predict, batches)
    raw = [
        classes_of(load_weights(nets.student, path))
        for path in report.track(f'{run.title}: raw students')(list(tail.values()))
    ]
    averaged = scatter.averages(
        states,
        nets.student,
        partial(recalibrate, train),
        classes_of,
        report.track(f'{run.title}: averages'),
    )
    return dict(
        checkpoints=tail,
        disagreement=scatter.disagreement(raw),
        **scatter.weight_spread([scatter.flat(state, names) for state in states.values()]),
        by_number=_by_number(averaged, raw, labels),
    )


def _show(found: dict[str, dict], report: Report) -> list[dict]:
    rows = [
        dict(
            run=title,
            checkpoints=len(row['checkpoints']),
            variance=row['variance'],
            relative_rms=row['relative_rms'],
            mean_distance=row['mean_distance'],
            disagreement=row['disagreement'],
            **row['by_number'][-1],
        )
        for title, row in found.items()
    ]
    report.table(
        'The tail, and the mean of all of it',
        rows,
        dict(
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
        ),
    )
    report.console.print(
        'variance: summed over the weights; rms/norm: its root over the norm '
        'of the mean; distance, disagree: of a pair, the latter as a share '
        'of the images; top-1 in %; ±: standard error over the images, of '
        'this one training',
        highlight=False,
    )
    return rows


def _by_number(averaged: dict[int, Tensor], raw: list[Tensor], labels: Tensor) -> list[dict]:
    rows = []
    for number, predicted in averaged.items():
        gain = scatter.gain(predicted, raw[-number:], labels)
        rows.append(
            dict(
                averaged=number,
                top1=scatter.accuracy(predicted, labels),
                raw_top1=float(np.mean([scatter.accuracy(x, labels) for x in raw[-number:]])),
                oldest_top1=scatter.accuracy(raw[-number], labels),
                gain=gain['gain'],
                gain_error=gain['error'],
            )
        )
    return rows
