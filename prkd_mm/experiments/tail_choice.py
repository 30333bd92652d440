"""How many epochs to average, and with which batch-norm statistics."""
from typing import Callable, Dict, Iterable, List

import torch
from mmengine.config import Config
from torch import nn

from ..analysis import spread
from ..analysis.trained import (Batches, build_nets, collect_logits,
                                load_batches, tail_checkpoints,
                                training_batches)
from ..batch_norm import batch_norms, recalibrate_bn
from ..checkpoints import plain_state_dict, read

State = Dict[str, torch.Tensor]


def tail_choices(cfg: Config,
                 device='cpu',
                 progress: Callable[[Iterable], Iterable] = iter
                 ) -> List[dict]:
    """Top-1 of the mean of the last I students, by I and batch norm.

    From the checkpoints that a run has kept, on its validation images, with
    the training batches that ``TailAverageHook`` would take.

    Args:
        cfg (Config): Of the run.
        device (str | torch.device): Defaults to 'cpu'.
        progress (Callable): Wraps what is iterated over. Defaults to iter.

    Returns:
        list[dict]: Rows of ``bn``, ``num_epochs`` and ``top1`` in percent.

    Raises:
        FileNotFoundError: The run has kept no two checkpoints.
    """
    nets = build_nets(cfg, device)
    tail = tail_checkpoints(cfg.work_dir)
    states = {epoch: plain_state_dict(read(str(path)))[0]
              for epoch, path in tail.items()}
    batches = load_batches(cfg, 'val', nets.preprocess)
    hook = cfg.default_hooks.get('tail_average') or {}
    train = training_batches(cfg, nets.preprocess, hook.get('bn_batches', 100),
                             cfg.randomness.seed, max(tail) - 1)
    labels = torch.cat([labels for _, labels in batches]).cpu()

    def predict(net: nn.Module) -> torch.Tensor:
        return collect_logits(dict(net=net), batches)[0]['net']

    modes = dict(
        recalibrate=lambda net: _recalibrate(net, train),
        average=lambda net: None,  # it has been, like the weights
        latest=lambda net: _of_the_latest(net, states[max(states)]))
    rows = []
    for bn in progress(list(modes)):
        found = spread.averages(states, nets.student, modes[bn], predict)
        rows += [
            dict(bn=bn, num_epochs=number,
                 top1=spread.accuracy(logits, labels))
            for number, logits in found.items()
        ]
    return rows


def _recalibrate(net: nn.Module, batches: Batches) -> None:
    recalibrate_bn(net, (inputs for inputs, _ in batches))


def _of_the_latest(net: nn.Module, latest: State) -> None:
    kept = set(batch_norms(net))
    for prefix, module in net.named_modules():
        if module in kept:
            for name, buffer in module.named_buffers():
                buffer.copy_(latest[f'{prefix}.{name}'])
