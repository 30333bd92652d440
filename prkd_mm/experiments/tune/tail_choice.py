"""Compare numbers of averaged epochs and sources of batch-norm statistics."""

from functools import partial
from typing import Callable, Union

import torch
from mmengine.config import Config
from torch import nn

from ...analysis.batches import accuracy, load_batches, predict, recalibrate, training_batches
from ...analysis.device import exact_float32
from ...analysis.nets import build_nets
from ...analysis.runs import tail_checkpoints
from ...analysis.spread.measure import averages
from ...averaging import restore_statistics
from ...checkpoints import plain_state_dict, read
from ...deploy.average import seed_of_run


@exact_float32()
def tail_choices(cfg: Config, device: Union[str, torch.device] = 'cpu') -> list[dict]:
    """Top-1 of the mean of the last I students, by I and batch-norm statistics.

    The students come from the checkpoints that a run kept, and are measured on its validation
    images. The batch-norm statistics use the same training batches as ``TailAverageHook``. Every
    epoch is averaged, regardless of the ``interval`` of that hook. A single student has one row,
    with its own statistics (bn='latest').

    Raises:
        FileNotFoundError: If the run kept fewer than two checkpoints.
        ValueError: If the checkpoints are not those of consecutive epochs up to the last one.
    """
    tail = tail_checkpoints(cfg.work_dir)
    last = cfg.train_cfg.max_epochs
    if list(tail) != list(range(last - len(tail) + 1, last + 1)):
        raise ValueError(
            f"'{cfg.work_dir}' has the checkpoints of epochs {', '.join(map(str, tail))}, but "
            f'needs those of the last {len(tail)} of {last} epochs; move that folder away and run '
            'the same command again'
        )
    nets = build_nets(cfg, device)
    states = {}
    for epoch, path in tail.items():
        checkpoint = read(str(path))
        states[epoch] = plain_state_dict(checkpoint)[0]
    batches = load_batches(cfg, 'val', nets.preprocess)
    train = training_batches(
        cfg,
        nets.preprocess,
        cfg.default_hooks.tail_average.get('bn_batches', 100),
        seed_of_run(checkpoint, cfg),
        last - 1,
    )
    labels = torch.cat([labels for _, labels in batches]).cpu()
    modes: dict[str, Callable[[nn.Module], None]] = dict(
        recalibrate=partial(recalibrate, train),
        average=lambda net: None,  # statistics were averaged with the weights
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
