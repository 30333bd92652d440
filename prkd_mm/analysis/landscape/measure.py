"""The loss round a trained net: curves, surfaces, and sharpness as numbers.

Everything moves the trainable weights alone; the net stays in evaluation mode
with the batch-norm statistics it has, unless ``recalibrate`` says otherwise.
A distance of 1 in *filter-normalised* coordinates moves each filter by its own
length: ``δ = s ⊙ u``, where s holds each filter's norm and is 0 for
batch-norm's parameters and for biases. Without that, a net whose batch norm
undoes the scale of its weights looks as sharp or flat as one likes. Li et
al., "Visualizing the Loss Landscape of Neural Nets", NeurIPS 2018,
https://arxiv.org/abs/1712.09913
"""

from collections.abc import Iterable, Sequence
from typing import Callable, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp
from torch.nn.utils import vector_to_parameters

Batch = tuple[Tensor, Tensor]


class Objective:
    """The mean loss of a net over fixed samples, of its weights as a vector.

    Args:
        net (nn.Module): Inputs to logits; put into evaluation mode.
        batches (Iterable): Of ``(inputs, targets)``, the same at each pass;
            one is on the device at a time.
        loss (Callable): ``loss(logits, targets)``, the mean over a batch.
            Defaults to the cross entropy.
    """

    def __init__(
        self,
        net: nn.Module,
        batches: Iterable[Batch],
        loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    ) -> None:
        self.net, self.batches, self.loss = net.eval(), batches, loss
        self.parameters = {name: p for name, p in net.named_parameters() if p.requires_grad}

    @property
    def weights(self) -> Tensor:
        """A copy of the weights, ``(P,)``."""
        return _flat(p.detach() for p in self.parameters.values())

    def set_weights(self, vector: Tensor) -> None:
        """Put ``(P,)`` weights into the net."""
        with torch.no_grad():
            vector_to_parameters(vector, self.parameters.values())

    def filter_norms(self) -> Tensor:
        """``s``: for each weight its filter's norm, ``(P,)``."""
        return _flat(
            p.flatten(1).norm(dim=1, keepdim=True).expand_as(p.flatten(1))
            if p.dim() > 1
            else torch.zeros_like(p)
            for p in map(torch.detach, self.parameters.values())
        )

    @torch.no_grad()
    def value(self) -> dict[str, float]:
        """``loss``, and ``error``: the share of wrong predictions in %."""
        loss = wrong = samples = 0
        for inputs, targets in self.batches:
            logits = self.net(inputs)
            loss += len(targets) * self.loss(logits, targets)
            if not targets.is_floating_point():
                wrong += (logits.argmax(1) != targets).sum()
            samples += len(targets)
        return dict(loss=float(loss / samples), error=100 * float(wrong / samples))

    def gradient(self) -> Tensor:
        """Of the loss, ``(P,)``."""
        return self._sum(lambda f, weights: grad(f)(weights))

    def hessian_times(self, vector: Tensor) -> Tensor:
        """The Hessian of the loss times ``vector``, ``(P,)``."""
        sizes = [p.numel() for p in self.parameters.values()]
        direction = {
            name: part.view_as(p)
            for (name, p), part in zip(self.parameters.items(), vector.split(sizes))
        }
        # twice in reverse: the forward mode took more than twice as long
        return self._sum(lambda f, weights: vjp(grad(f), weights)[1](direction)[0])

    def _sum(self, derivative: Callable) -> Tensor:
        weights = {name: p.detach() for name, p in self.parameters.items()}
        total, samples = 0, 0
        for inputs, targets in self.batches:

            def loss(weights):
                logits = functional_call(self.net, weights, (inputs,))
                return self.loss(logits, targets)

            parts = derivative(loss, weights)
            total = total + len(targets) * _flat(parts.values())
            samples += len(targets)
        return total / samples


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([x.reshape(-1) for x in tensors])


def random_direction(objective: Objective, seed: int) -> Tensor:
    """A filter-normalised Gaussian direction ``(P,)``.

    Each filter of it is as long as that filter of the net.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = (torch.randn(p.shape, generator=generator).to(p) for p in objective.parameters.values())
    return objective.filter_norms() * _flat(
        F.normalize(draw.flatten(1), dim=1) if draw.dim() > 1 else draw for draw in draws
    )


def surface(
    objectives: dict[str, Objective],
    origin: Tensor,
    directions: Sequence[Tensor],
    points: Sequence[Sequence[float]],
    recalibrate: Optional[Callable[[nn.Module], None]] = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[dict[str, float]]:
    """Loss and error at ``origin + Σ_k a_k · direction_k``.

    Args:
        objectives (dict): By name, on one net, whose weights stay as they
            were.
        origin (Tensor): ``(P,)``.
        directions (Sequence[Tensor]): Each ``(P,)``.
        points (Sequence): The coordinates ``a``.
        recalibrate (Callable, optional): Called with the net at each point,
            to set its batch-norm statistics. Defaults to None: they stay.
        progress (Callable): Wraps what is iterated over. Defaults to iter.

    Returns:
        list[dict]: For each point ``<name>_loss`` and ``<name>_error``.
    """
    first = next(iter(objectives.values()))
    before, rows = first.weights, []
    for point in progress(points):
        first.set_weights(origin + sum(a * direction for a, direction in zip(point, directions)))
        if recalibrate is not None:
            recalibrate(first.net)
        rows.append(
            {
                f'{name}_{key}': value
                for name, objective in objectives.items()
                for key, value in objective.value().items()
            }
        )
    first.set_weights(before)
    return rows


def plane(vectors: Sequence[Tensor]) -> tuple[list[Tensor], list[list[float]]]:
    """The plane through three weight vectors.

    Garipov et al., "Loss Surfaces, Mode Connectivity, and Fast Ensembling of
    DNNs", NeurIPS 2018, https://arxiv.org/abs/1802.10026

    Returns:
        tuple: two orthonormal directions from the first one, and the
        coordinates of the three, in the distance of the weights.

    Raises:
        ValueError: The three lie on a line.
    """
    sides = torch.stack([v - vectors[0] for v in vectors[1:]]).double()
    basis, coordinates = torch.linalg.qr(sides.T)
    signs = coordinates.diagonal().sign()
    basis, coordinates = basis * signs, signs[:, None] * coordinates
    if coordinates[1, 1] < 1e-6 * coordinates.norm():
        raise ValueError('the three checkpoints lie on a line, which is no plane; take others')
    return (list(basis.T.to(vectors[0])), [[0.0, 0.0]] + coordinates.T.tolist())


def top_eigenvalue(
    objective: Objective, scale: Optional[Tensor] = None, seed: int = 0, tolerance: float = 1e-2
) -> float:
    """The largest eigenvalue of the Hessian, by ARPACK's Lanczos iteration.

    Args:
        objective (Objective): Of the loss.
        scale (Tensor, optional): ``s``, for the Hessian ``diag(s) H diag(s)``
            in coordinates scaled by it. Defaults to None: ones.
        seed (int): Of the start vector. Defaults to 0.
        tolerance (float): Relative. Defaults to 1e-2.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    weights = objective.weights
    scale = torch.ones_like(weights) if scale is None else scale
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(len(weights), generator=generator).to(weights)

    def times(vector):
        vector = torch.as_tensor(vector).to(weights).reshape(-1)
        product = scale * objective.hessian_times(scale * vector)
        return product.cpu().numpy()

    start = scale * start  # outside of it the operator is 0
    operator = LinearOperator((len(weights),) * 2, times, dtype=start.cpu().numpy().dtype)
    return float(
        eigsh(
            operator,
            k=1,
            which='LA',
            v0=start.cpu().numpy(),
            ncv=min(12, len(weights)),  # vectors of P that it keeps
            tol=tolerance,
            return_eigenvectors=False,
        )[0]
    )


def trace(
    objective: Objective, scale: Optional[Tensor] = None, seed: int = 0, probes: int = 10
) -> dict[str, float]:
    """Hutchinson's estimate of the Hessian's trace: mean of ``vᵀHv``, v = ±1.

    Args:
        objective (Objective): Of the loss.
        scale (Tensor, optional): As of :func:`top_eigenvalue`.
        seed (int): Of the probes. Defaults to 0.
        probes (int): Vectors v. Defaults to 10.

    Returns:
        dict: ``mean`` and its standard ``error`` over the probes.
    """
    weights = objective.weights
    scale = torch.ones_like(weights) if scale is None else scale
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(probes):
        v = torch.randint(2, weights.shape, generator=generator).to(weights)
        v = scale * (2 * v - 1)
        values.append(v.double() @ objective.hessian_times(v).double())
    values = torch.stack(values)
    return dict(mean=values.mean().item(), error=(values.std() / probes**0.5).item())


def worst_loss(
    objective: Objective,
    radius: float,
    scale: Optional[Tensor] = None,
    seed: int = 0,
    steps: int = 10,
) -> float:
    """The largest loss found within ``‖u‖ ≤ radius·√F``, ``δ = s ⊙ u``.

    By projected gradient ascent from a random point. With F filters a random
    direction (:func:`random_direction`) at the distance ``radius`` lies on
    that ball's surface. As in Kwon et al., "ASAM: Adaptive Sharpness-Aware
    Minimization", ICML 2021, https://arxiv.org/abs/2102.11600, with filters
    for their elements. A lower bound of the worst.

    Args:
        objective (Objective): Of the loss; its weights stay as they were.
        radius (float): In filters' lengths.
        scale (Tensor, optional): ``s``. Defaults to None: ones, and F = 1.
        seed (int): Of the start. Defaults to 0.
        steps (int): Of the ascent, each of a quarter of the radius. Defaults
            to 10.
    """
    origin, worst = objective.weights, -torch.inf
    scale, bound = (
        (torch.ones_like(origin), radius)
        if scale is None
        else (scale, radius * num_filters(objective) ** 0.5)
    )
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(len(origin), generator=generator).to(origin)
    u = u * (scale > 0)
    u *= bound / u.norm()
    for step in range(steps + 1):
        objective.set_weights(origin + scale * u)
        worst = max(worst, objective.value()['loss'])
        if step < steps:
            ascent = scale * objective.gradient()
            u = u + bound / 4 * F.normalize(ascent, dim=0)
            u *= min(1.0, bound / u.norm())
    objective.set_weights(origin)
    return worst


def num_filters(objective: Objective) -> int:
    """F: filters (rows of weights) of the net."""
    return sum(len(p) for p in objective.parameters.values() if p.dim() > 1)
