"""How far a run's last checkpoints are apart, and what averaging them gives.

Averaging pays where the checkpoints scatter round a better point, and does
nothing where they are one point: "Averaging Weights Leads to Wider Optima and
Better Generalization", UAI 2018, https://arxiv.org/abs/1803.05407
"""

from collections.abc import Iterable, Sequence
from typing import Callable

import torch
from torch import Tensor, nn

from ...averaging import State, mean_of


def flat(state: State, names: Iterable[str]) -> Tensor:
    """The named tensors as one vector, in float32."""
    return torch.cat([state[name].float().reshape(-1) for name in names])


def weight_spread(vectors: Sequence[Tensor]) -> dict:
    """The scatter of ``n`` weight vectors ``θ_i`` round their mean ``θ̄``.

    Args:
        vectors (Sequence[Tensor]): Of one length; at least two.

    Returns:
        dict: ``variance`` = ``1/(n−1) Σ_i ‖θ_i − θ̄‖²``, summed over the
        weights; ``relative_rms`` = ``√variance / ‖θ̄‖``; ``distances``, the
        matrix ``‖θ_i − θ_j‖``; ``mean_distance`` over the pairs.
    """
    n = len(vectors)
    mean = sum(vector.double() for vector in vectors) / n
    variance = sum((vector.double() - mean).square().sum() for vector in vectors) / (n - 1)
    distances = torch.zeros(n, n, dtype=torch.double)
    for i, j in torch.combinations(torch.arange(n)).tolist():
        # not cdist, whose matrix product loses small distances
        distances[i, j] = distances[j, i] = torch.dist(vectors[i], vectors[j])
    return dict(
        variance=variance.item(),
        relative_rms=(variance.sqrt() / mean.norm()).item(),
        distances=distances.tolist(),
        mean_distance=distances.sum().item() / (n * (n - 1)),
    )


def disagreement(predictions: Sequence[Tensor]) -> float:
    """Share of samples on which two nets differ, mean over the pairs.

    Args:
        predictions (Sequence[Tensor]): Predicted classes ``(N,)`` of each
            net; at least two.
    """
    stacked = torch.stack(list(predictions))
    pairs = torch.combinations(torch.arange(len(stacked)))
    return (stacked[pairs[:, 0]] != stacked[pairs[:, 1]]).double().mean().item()


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Top-1 in percent, of classes ``(N,)``."""
    return 100 * (predicted == labels).double().mean().item()


def gain(averaged: Tensor, raw: Sequence[Tensor], labels: Tensor) -> dict:
    """Top-1 of the average less the mean top-1 of the raw nets, in points.

    ``error`` is the standard error for a test set drawn anew, of the same
    nets: the samples' differences are paired.

    Args:
        averaged (Tensor): Classes that the averaged net predicts, ``(N,)``.
        raw (Sequence[Tensor]): Those of the nets that were averaged.
        labels (Tensor): ``(N,)``.

    Returns:
        dict: ``gain`` and ``error``, in points.
    """
    right = [(x == labels).double() for x in raw]
    difference = 100 * ((averaged == labels).double() - torch.stack(right).mean(0))
    return dict(gain=difference.mean().item(), error=(difference.std() / len(labels) ** 0.5).item())


def averages(
    states: dict[int, State],
    net: nn.Module,
    recalibrate: Callable[[nn.Module], None],
    predict: Callable[[nn.Module], Tensor],
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[int, Tensor]:
    """Logits of the mean of the last I students, by I from 1 on.

    Args:
        states (dict): State dicts by epoch, ascending.
        net (nn.Module): Whose weights they are; gets those of the last mean.
        recalibrate (Callable): Sets the batch-norm statistics of the averaged
            weights; not called for a single student, which has its own.
        predict (Callable): The net to its predictions.
        progress (Callable): Wraps what is iterated over. Defaults to iter.
    """
    tail: list[State] = list(states.values())
    result = {}
    for number in progress(range(1, len(tail) + 1)):
        net.load_state_dict(mean_of(tail[-number:]))
        if number > 1:
            recalibrate(net)
        result[number] = predict(net)
    return result
