"""The loss around a trained net: curves and surfaces.

Only the trainable weights vary. The net stays in evaluation mode with its own batch-norm
statistics, unless ``recalibrate`` re-estimates them.

A distance of 1 in *filter-normalized* coordinates moves each filter by its own norm: ``δ = s
⊙ u``, where s is the norm of each weight's filter, and 0 for batch-norm parameters and
biases. Without this normalization, a net whose batch norm undoes the scale of its weights can
be made to look arbitrarily sharp or flat. Li et al., "Visualizing the Loss Landscape of
Neural Nets", NeurIPS 2018, https://arxiv.org/abs/1712.09913
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import Callable, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor, nn

from ...stats.estimates import Estimate, mean_and_deviation
from ...stats.paired import Difference, difference
from .objective import Objective, Value, random_direction
from .sharpness import Sharpness

SPLITS = ('train', 'test')
_SECOND = 1_000_003  # offset of the second direction's seed


class Draw(NamedTuple):
    """One training with one draw of images and directions."""

    training: int  # its seed, by which several runs are paired
    checkpoint: str
    seed: int  # of the draw
    curve: dict[float, dict[str, Value]]  # by distance along a random direction, then by split
    sharpness: Sharpness


class Surface(NamedTuple):
    """Loss and error in a plane of the weights, by split."""

    a: list[float]  # coordinates along the first direction
    b: list[float]  # coordinates along the second direction
    values: list[dict[str, Value]]  # at each point of product(a, b)
    marks: dict[str, list[float]]  # coordinates of marked points, by label
    at_marks: dict[str, dict[str, Value]]

    def losses(self, split: str) -> np.ndarray:
        """The loss on the grid, ``(len(b), len(a))``."""
        losses = np.array([value[split].loss for value in self.values])
        return losses.reshape(len(self.a), len(self.b)).T


def over_trainings(draws: Sequence[Draw], values: Sequence[float]) -> Estimate:
    """Mean and standard deviation over the trainings, or over the draws of a single one.

    There is one value per draw. Draws of the same training are averaged first.
    """
    means = list(by_training(draws, values).values())
    return mean_and_deviation(values if len(means) == 1 else means)


def by_training(draws: Sequence[Draw], values: Sequence[float]) -> dict[int, float]:
    """Mean over the draws of each training, by its seed. There is one value per draw."""
    found = defaultdict(list)
    for draw, value in zip(draws, values):
        found[draw.training].append(value)
    return {seed: float(np.mean(values)) for seed, values in found.items()}


def sharpness_over_trainings(draws: Sequence[Draw], key: str) -> Estimate:
    """One field of :class:`Sharpness` by :func:`over_trainings`."""
    return over_trainings(draws, _field(draws, key))


def sharpness_differences(draws: Mapping[str, Sequence[Draw]], key: str) -> list[Difference]:
    """Differences of one field of :class:`Sharpness` between all runs, paired by training.

    A training without one of the same seed in the other run is left out. A later run is compared
    with each earlier one.
    """
    numbers = {title: by_training(each, _field(each, key)) for title, each in draws.items()}
    pairs = combinations(numbers, 2)
    found = (difference(two, one, numbers[two], numbers[one]) for one, two in pairs)
    return [each for each in found if each]


def _field(draws: Sequence[Draw], key: str) -> list[float]:
    return [getattr(draw.sharpness, key) for draw in draws]


def curve(
    objectives: dict[str, Objective], seed: int, axis: Sequence[float]
) -> dict[float, dict[str, Value]]:
    """Loss and error along a random direction, by distance."""
    train, points = objectives['train'], [(a,) for a in axis]
    values = values_at(objectives, train.weights, [random_direction(train, seed)], points)
    return dict(zip(axis, values))


def random_surface(
    objectives: dict[str, Objective],
    seed: int,
    axis: list[float],
    progress: Callable[[Iterable], Iterable] = iter,
) -> Surface:
    """Loss and error in the plane of two random directions."""
    train = objectives['train']
    directions = [random_direction(train, s) for s in (seed, seed + _SECOND)]
    points = list(product(axis, axis))
    values = values_at(objectives, train.weights, directions, points, progress=progress)
    return Surface(axis, axis, values, {}, {})


def plane_surface(
    objectives: dict[str, Objective],
    vectors: dict[str, Tensor],
    size: int,
    recalibrate: Callable[[nn.Module], None],
    progress: Callable[[Iterable], Iterable] = iter,
) -> Surface:
    """Loss and error in the plane through three weight vectors.

    The grid has ``size`` points along each axis, and extends beyond the coordinates of the
    vectors by half of the larger range of the two. The vectors and their mean are marked.
    """
    directions, coordinates = plane(list(vectors.values()))
    marks = dict(zip(vectors, coordinates), mean=np.mean(coordinates, 0).tolist())
    low, high = np.min(coordinates, 0), np.max(coordinates, 0)
    margin = (high - low).max() / 2  # of both, since a narrow strip would be unreadable
    axes = np.linspace(low - margin, high + margin, size).T.tolist()
    origin = next(iter(vectors.values()))
    points = [*marks.values(), *product(*axes)]
    values = values_at(objectives, origin, directions, points, recalibrate, progress)
    a, b = axes
    return Surface(a, b, values[len(marks) :], marks, dict(zip(marks, values)))


def values_at(
    objectives: dict[str, Objective],
    origin: Tensor,
    directions: Sequence[Tensor],
    points: Sequence[Sequence[float]],
    recalibrate: Optional[Callable[[nn.Module], None]] = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[dict[str, Value]]:
    """Loss and error at the points ``origin + Σ_k a_k · direction_k``, by objective.

    The objectives are those of one net, whose weights are restored at the end. The batch-norm
    statistics are re-estimated at each point by ``recalibrate``, if it is given.
    """
    first = next(iter(objectives.values()))
    before, values = first.weights, []
    for point in progress(points):
        first.set_weights(origin + sum(a * direction for a, direction in zip(point, directions)))
        if recalibrate is not None:
            recalibrate(first.net)
        values.append({name: objective.value() for name, objective in objectives.items()})
    first.set_weights(before)
    return values


def plane(vectors: Sequence[Tensor]) -> tuple[list[Tensor], list[list[float]]]:
    """Two orthonormal directions through three weight vectors, and the coordinates of the vectors.

    The first vector is the origin. Garipov et al., "Loss Surfaces, Mode Connectivity, and Fast
    Ensembling of DNNs", NeurIPS 2018, https://arxiv.org/abs/1802.10026

    Raises:
        ValueError: If the three lie on a line.
    """
    sides = torch.stack([v - vectors[0] for v in vectors[1:]]).double()
    basis, coordinates = torch.linalg.qr(sides.T)
    signs = coordinates.diagonal().sign()
    basis, coordinates = basis * signs, signs[:, None] * coordinates
    if coordinates[1, 1] < 1e-6 * coordinates.norm():
        raise ValueError(
            'the three checkpoints lie on a line and do not span a plane; choose others'
        )
    return (list(basis.T.to(vectors[0])), [[0.0, 0.0]] + coordinates.T.tolist())
