"""Distances between the last checkpoints of a run, and the gain from averaging them.

Averaging helps where the checkpoints scatter around a better point, and does nothing
where they coincide: "Averaging Weights Leads to Wider Optima and Better
Generalization", UAI 2018, https://arxiv.org/abs/1803.05407
"""

from collections.abc import Collection, Iterable, Sequence
from functools import reduce
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Union

import numpy as np
import torch
from torch import Tensor, nn

from ...averaging import State, mean_of
from ...checkpoints import plain_state_dict, read
from ...stats.estimates import Estimate
from ..batches import accuracy
from ..runs import tail_checkpoints


class WeightSpread(NamedTuple):
    """The scatter of ``n`` weight vectors ``θ_i`` around their mean ``θ̄``."""

    variance: float  # 1/(n−1) Σ_i ‖θ_i − θ̄‖², summed over the weights
    relative_rms: float  # √variance / ‖θ̄‖
    distances: list[list[float]]  # the matrix ‖θ_i − θ_j‖
    mean_distance: float  # mean over the pairs


class AverageResult(NamedTuple):
    """Top-1 of the mean of the last ``averaged`` students, in %."""

    averaged: int
    top1: float
    raw_top1: float  # mean top-1 of these students
    oldest_top1: float  # top-1 of the earliest of these students
    gain: float  # top1 − raw_top1
    gain_error: float  # standard error of the gain over the images


class RunSpread(NamedTuple):
    """The tail of one run: scatter of the trainable weights, and averages."""

    checkpoints: dict[str, str]  # files by label, in ascending order of epochs
    disagreement: float  # see disagreement()
    variance: float
    relative_rms: float
    distances: list[list[float]]
    mean_distance: float
    by_number: list[AverageResult]


def flat(state: State, names: Iterable[str]) -> Tensor:
    """The named tensors as one vector, in float32."""
    return torch.cat([state[name].float().reshape(-1) for name in names])


def weight_spread(vectors: Sequence[Tensor]) -> WeightSpread:
    """The scatter of at least two weight vectors of the same length."""
    n = len(vectors)
    mean = reduce(torch.add, (vector.double() for vector in vectors)) / n
    squares = ((vector.double() - mean).square().sum() for vector in vectors)
    variance = reduce(torch.add, squares) / (n - 1)
    distances = torch.zeros(n, n, dtype=torch.double)
    for i, j in torch.combinations(torch.arange(n)).tolist():
        # cdist would lose small distances in its matrix product
        distances[i, j] = distances[j, i] = torch.dist(vectors[i], vectors[j])
    return WeightSpread(
        variance=variance.item(),
        relative_rms=(variance.sqrt() / mean.norm()).item(),
        distances=distances.tolist(),
        mean_distance=distances.sum().item() / (n * (n - 1)),
    )


def last_step(work_dir: Union[str, Path], names: Collection[str]) -> Optional[tuple[float, float]]:
    """Distance between the students of the last two epochs, and the norm of their mean.

    ``names`` are the weights to compare. None if the work dir lacks one of the checkpoints.
    """
    try:
        paths = tail_checkpoints(work_dir, 2, last=2)
    except FileNotFoundError:
        return None
    one, other = (flat(plain_state_dict(read(str(path)))[0], names) for path in paths.values())
    return torch.dist(one, other).item(), (0.5 * (one + other)).norm().item()


def disagreement(predictions: Sequence[Tensor]) -> float:
    """Share of samples that two nets classify differently, mean over the pairs."""
    stacked = torch.stack(list(predictions))
    pairs = torch.combinations(torch.arange(len(stacked)))
    return (stacked[pairs[:, 0]] != stacked[pairs[:, 1]]).double().mean().item()


def gain(averaged: Tensor, raw: Sequence[Tensor], labels: Tensor) -> Estimate:
    """Top-1 of the average minus the mean top-1 of the raw nets, in points.

    Both are given by their predicted classes ``(N,)``. The error is the standard error over the
    images, by which the differences are paired.
    """
    correct = [(x == labels).double() for x in raw]
    difference = 100 * ((averaged == labels).double() - torch.stack(correct).mean(0))
    return Estimate(difference.mean().item(), (difference.std() / len(labels) ** 0.5).item())


def average_results(
    averaged: dict[int, Tensor], raw: Sequence[Tensor], labels: Tensor
) -> list[AverageResult]:
    """Compare the means of the last I students, by I, with these students, in order of epochs.

    Both are given by their predicted classes ``(N,)``.
    """
    raw_top1 = [accuracy(x, labels) for x in raw]
    return [
        AverageResult(
            number,
            accuracy(predicted, labels),
            float(np.mean(raw_top1[-number:])),
            raw_top1[-number],
            *gain(predicted, raw[-number:], labels),
        )
        for number, predicted in averaged.items()
    ]


def averages(
    states: dict[int, State],
    net: nn.Module,
    recalibrate: Callable[[nn.Module], None],
    predict: Callable[[nn.Module], Tensor],
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[int, Tensor]:
    """Predictions of the mean of the last I students, by I from 1 on.

    ``recalibrate`` re-estimates the batch-norm statistics of averaged weights; a single student
    keeps its own. The states are in order of epochs; the net keeps the last mean.
    """
    tail: list[State] = list(states.values())
    result = {}
    for number in progress(range(1, len(tail) + 1)):
        net.load_state_dict(mean_of(tail[-number:]))
        if number > 1:
            recalibrate(net)
        result[number] = predict(net)
    return result
