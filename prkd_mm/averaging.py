"""The mean of the weights of several students.

This is the tail average of "Progressively Relaxed Knowledge Distillation" (IJCNN 2024),
``θ_MA = 1/I Σ θ_e``. The sum is computed in float64 on the CPU, so that a large ``I`` does not
reduce the precision.
"""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

State = dict[str, Tensor]
BN_MODES = ('recalibrate', 'average', 'latest')  # batch-norm statistics of an average


def add_to_sum(total: State, state: State) -> None:
    """Add a student's floating-point tensors to sums by name, float64 on the CPU, in place."""
    for name, value in state.items():
        if value.is_floating_point():
            if name not in total:
                total[name] = torch.zeros_like(value, dtype=torch.double, device='cpu')
            total[name] += value.cpu()


def mean_state(
    total: State, count: int, latest: State, keep_from_latest: Collection[str] = ()
) -> State:
    """The state dict of the averaged student, from the sums of ``count`` students.

    The state dict of the latest student determines the order, the data types, and the values of
    integer tensors and those named in ``keep_from_latest``.
    """
    state = dict(latest)
    for name, value in latest.items():
        if value.is_floating_point() and name not in keep_from_latest:
            state[name] = (total[name] / count).to(value)
    return state


def load_mean(net: nn.Module, total: State, count: int, latest: State, bn: str) -> None:
    """Load the mean of students into a net; the arguments are those of :func:`mean_state`.

    With ``bn='latest'``, the batch-norm statistics are those of the latest student, otherwise
    their mean.
    """
    keep = batch_norm_statistics(net) if bn == 'latest' else set()
    net.load_state_dict(mean_state(total, count, latest, keep))


def mean_of(states: Sequence[State]) -> State:
    """The mean of state dicts; integer tensors come from the last one."""
    total: State = {}
    for state in states:
        add_to_sum(total, state)
    return mean_state(total, len(states), states[-1])


def batch_norm_statistics(model: nn.Module) -> set[str]:
    """Names of the batch-norm running statistics in ``model``'s state dict."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    buffers = {id(buffer) for layer in layers for buffer in layer.buffers()}
    return {name for name, value in _named(model).items() if id(value) in buffers}


def trained_weights(model: nn.Module) -> list[str]:
    """Names of the weights that are trained in ``model``'s state dict.

    Raises:
        ValueError: If the state dict does not contain one of them.
    """
    names = {id(value): name for name, value in _named(model).items()}
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    if missing := [name for name, weight in trained.items() if id(weight) not in names]:
        raise ValueError(f'the state dict of the net does not contain its weight {missing[0]!r}')
    return [names[id(weight)] for weight in trained.values()]


def _named(model: nn.Module) -> State:
    """The tensors of a model itself, under the names of its state dict.

    These are not always those of ``named_parameters``: MMPretrain's ``TimmClassifier`` shortens
    them.
    """
    return model.state_dict(keep_vars=True)


def restore_statistics(state: State, model: nn.Module) -> None:
    """Copy the batch-norm running statistics of a state dict into ``model``."""
    own = model.state_dict()
    for name in batch_norm_statistics(model):
        own[name].copy_(state[name])
