"""Statistics of batch normalisation for weights that no step produced."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The batch-norm layers of a net that keep running statistics."""
    return [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    ]


def recalibrate_bn(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Re-estimate batch-norm statistics as the mean over ``batches``.

    Running mean and variance become the equal-weight means of the batches'
    means and unbiased variances. Layers that a net keeps in evaluation mode
    (frozen stages, ``norm_eval``) stay as they are. Modes and momenta are
    restored.

    Args:
        model (nn.Module): The net; called on each batch.
        batches (Iterable[Tensor]): Inputs, at least one batch.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    layers = [layer for layer in batch_norms(model) if layer.training]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch's cumulative average
    with torch.no_grad():
        for inputs in batches if layers else ():
            model(inputs)
    for layer, momentum in zip(layers, momenta):
        layer.momentum = momentum
    for module, mode in modes:
        module.training = mode
