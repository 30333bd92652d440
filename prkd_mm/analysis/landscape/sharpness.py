"""Measures of the sharpness of the loss at the weights of a net."""

from typing import NamedTuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from ...stats.estimates import Estimate, mean_and_standard_error
from .objective import Objective, num_filters

Scale = Union[float, Tensor]  # s, one number per weight or the same for all


class Sharpness(NamedTuple):
    """Sharpness of the train loss; ``normalized_*`` are in filter-normalized coordinates."""

    top_eigenvalue: float
    trace: float
    trace_error: float
    normalized_top_eigenvalue: float
    normalized_trace: float
    normalized_trace_error: float
    loss: float
    worst_loss: float
    worst_rise: float  # worst_loss − loss
    weight_norm: float  # norm of all trainable weights


def sharpness(objective: Objective, seed: int, radius: float, probes: int) -> Sharpness:
    """All measures of sharpness of the train loss at the current weights."""
    scale, loss = objective.filter_norms(), objective.value().loss
    worst = worst_loss(objective, radius, scale, seed)
    return Sharpness(
        top_eigenvalue(objective, 1.0, seed),
        *trace(objective, 1.0, seed, probes),
        top_eigenvalue(objective, scale, seed),
        *trace(objective, scale, seed, probes),
        loss,
        worst,
        worst - loss,
        objective.weights.norm().item(),
    )


def top_eigenvalue(
    objective: Objective, scale: Scale = 1.0, seed: int = 0, tolerance: float = 1e-2
) -> float:
    """The largest eigenvalue of the Hessian ``diag(s) H diag(s)`` with the scale s.

    It is computed by ARPACK's Lanczos iteration up to a relative error, the ``tolerance``.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    weights = objective.weights
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(len(weights), generator=generator).to(weights)

    def times(vector):
        vector = torch.as_tensor(vector).to(weights).reshape(-1)
        product = scale * objective.hessian_times(scale * vector)
        return product.cpu().numpy()

    start = scale * start  # the operator is 0 where the scale is 0
    operator = LinearOperator((len(weights),) * 2, times, dtype=start.cpu().numpy().dtype)
    return float(
        eigsh(
            operator,
            k=1,
            which='LA',
            v0=start.cpu().numpy(),
            ncv=min(12, len(weights)),  # Lanczos vectors in memory
            tol=tolerance,
            return_eigenvectors=False,
        )[0]
    )


def trace(objective: Objective, scale: Scale = 1.0, seed: int = 0, probes: int = 10) -> Estimate:
    """Hutchinson's estimate of the trace of the Hessian in :func:`top_eigenvalue`.

    It is the mean of ``vᵀHv`` over several probes v = ±1, with its standard error.
    """
    weights = objective.weights
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(probes):
        v = torch.randint(2, weights.shape, generator=generator).to(weights)
        v = scale * (2 * v - 1)
        values.append((v.double() @ objective.hessian_times(v).double()).item())
    return mean_and_standard_error(values)


def worst_loss(
    objective: Objective, radius: float, scale: Tensor, seed: int = 0, steps: int = 10
) -> float:
    """The largest loss found within ``‖u‖ ≤ radius·√F``, ``δ = s ⊙ u``.

    This is a lower bound of the maximum, found by projected gradient ascent from a random
    point. With F filters, a random direction (:func:`random_direction`) of length ``radius``
    lies on the surface of this ball. The method follows Kwon et al., "ASAM: Adaptive
    Sharpness-Aware Minimization", ICML 2021, https://arxiv.org/abs/2102.11600, but scales by
    filters instead of elements. Each ascent step is a quarter of the radius long.
    """
    origin, worst = objective.weights, -torch.inf
    bound = radius * num_filters(objective) ** 0.5
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(len(origin), generator=generator).to(origin)
    u = u * (scale > 0)
    u *= bound / u.norm()
    for step in range(steps + 1):
        objective.set_weights(origin + scale * u)
        worst = max(worst, objective.value().loss)
        if step < steps:
            ascent = scale * objective.gradient()
            u = u + bound / 4 * F.normalize(ascent, dim=0)
            u *= min(1.0, bound / u.norm())
    objective.set_weights(origin)
    return worst
