"""The loss of a net as a function of its weights, with derivatives."""

from collections.abc import Iterable
from functools import partial
from typing import Callable, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp
from torch.nn.utils import vector_to_parameters

from ..batches import Batch


class Value(NamedTuple):
    """Mean loss over the samples, and share of wrong predictions in %."""

    loss: float
    error: float


class Objective:
    """The mean loss of a net over fixed samples, as a function of its weight vector.

    The net is set to evaluation mode. The batches ``(inputs, targets)`` are the same in every
    pass, and ``loss(logits, targets)`` is the mean over one of them.
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
        """Set the weights of the net to a vector ``(P,)``."""
        with torch.no_grad():
            vector_to_parameters(vector, self.parameters.values())

    def filter_norms(self) -> Tensor:
        """``s``: the norm of each weight's filter, ``(P,)``."""
        return _flat(
            p.flatten(1).norm(dim=1, keepdim=True).expand_as(p.flatten(1))
            if p.dim() > 1
            else torch.zeros_like(p)
            for p in map(torch.detach, self.parameters.values())
        )

    @torch.no_grad()
    def value(self) -> Value:
        """Loss and error at the current weights."""
        loss, wrong, samples = torch.zeros(()), torch.zeros(()), 0
        for inputs, targets in self.batches:
            logits = self.net(inputs)
            loss = loss + len(targets) * self.loss(logits, targets)
            wrong = wrong + (logits.argmax(1) != targets).sum()
            samples += len(targets)
        return Value(float(loss / samples), 100 * float(wrong / samples))

    def gradient(self) -> Tensor:
        """The gradient of the loss, ``(P,)``."""
        return self._sum(lambda f, weights: grad(f)(weights))

    def hessian_times(self, vector: Tensor) -> Tensor:
        """The Hessian of the loss times ``vector``, ``(P,)``."""
        sizes = [p.numel() for p in self.parameters.values()]
        direction = {
            name: part.view_as(p)
            for (name, p), part in zip(self.parameters.items(), vector.split(sizes))
        }
        # reverse over reverse: forward over reverse took more than twice as long
        return self._sum(lambda f, weights: vjp(grad(f), weights)[1](direction)[0])

    def _sum(self, derivative: Callable) -> Tensor:
        weights = {name: p.detach() for name, p in self.parameters.items()}
        total, samples = torch.zeros(()), 0
        for inputs, targets in self.batches:
            parts = derivative(partial(self._loss_at, inputs, targets), weights)
            total = total + len(targets) * _flat(parts.values())
            samples += len(targets)
        return total / samples

    def _loss_at(self, inputs: Tensor, targets: Tensor, weights: dict[str, Tensor]) -> Tensor:
        return self.loss(functional_call(self.net, weights, (inputs,)), targets)


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([x.reshape(-1) for x in tensors])


def random_direction(objective: Objective, seed: int) -> Tensor:
    """A Gaussian direction ``(P,)`` in which each filter has the norm of the net's filter."""
    generator = torch.Generator().manual_seed(seed)
    draws = (torch.randn(p.shape, generator=generator).to(p) for p in objective.parameters.values())
    return objective.filter_norms() * _flat(
        F.normalize(draw.flatten(1), dim=1) if draw.dim() > 1 else draw for draw in draws
    )


def num_filters(objective: Objective) -> int:
    """Number F of filters of the net, the rows of its weight matrices."""
    return sum(len(p) for p in objective.parameters.values() if p.dim() > 1)
