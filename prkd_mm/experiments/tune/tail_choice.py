"""How many epochs to average, and with which batch-norm statistics."""

from functools import partial

import torch
from mmengine.config import Config

from ...analysis.batches import accuracy, load_batches, predict, recalibrate, training_batches
from ...analysis.device import exact_float32
from ...analysis.nets import build_nets
from ...analysis.runs import tail_checkpoints
from ...analysis.spread.measure import averages
from ...averaging import restore_statistics
from ...checkpoints import plain_state_dict, read


@exact_float32()
def tail_choices(cfg: Config, device='cpu') -> list[dict]:
    """Top-1 of the mean of the last I students, by I and batch norm.

    From the checkpoints that a run has kept, on its validation images, with
    the training batches that ``TailAverageHook`` would take; of all epochs,
    whatever the ``interval`` of that hook.

    Args:
        cfg (Config): Of the run.
        device (str | torch.device): Defaults to 'cpu'.

    Returns:
        list[dict]: Rows of ``bn``, ``num_epochs`` and ``top1`` in percent.
        A single student is there once: as it is, which is bn='latest'.

    Raises:
        FileNotFoundError: The run has kept no two checkpoints.
    """
    nets = build_nets(cfg, device)
    tail = tail_checkpoints(cfg.work_dir)
    states = {epoch: plain_state_dict(read(str(path)))[0] for epoch, path in tail.items()}
    batches = load_batches(cfg, 'val', nets.preprocess)
    train = training_batches(
        cfg,
        nets.preprocess,
        cfg.default_hooks.tail_average.get('bn_batches', 100),
        cfg.get('randomness', {}).get('seed') or 0,
        max(tail) - 1,
    )
    labels = torch.cat([labels for _, labels in batches]).cpu()
    modes = dict(
        recalibrate=partial(recalibrate, train),
        average=lambda net: None,  # it has been, like the weights
        latest=partial(restore_statistics, states[max(states)]),
    )
    return [
        dict(bn=bn, num_epochs=number, top1=accuracy(predicted, labels))
        for bn, set_batch_norm in modes.items()
        for number, predicted in averages(
            states, nets.student, set_batch_norm, partial(predict, batches)
        ).items()
        if number > 1 or bn == 'latest'
    ]
