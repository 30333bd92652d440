"""Where a run stands, in epochs, under either of MMEngine's train loops."""

import math

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from mmengine.runner import IterBasedTrainLoop, Runner


def _iters_per_epoch(runner: Runner) -> int:
    loader = runner.train_dataloader
    # its length is that of the data set, not of the rank's part of it
    whole = isinstance(loader.sampler, InfiniteSampler)
    return math.ceil(len(loader) / (get_world_size() if whole else 1))


def is_iter_based(runner: Runner) -> bool:
    """Whether the loop counts iterations and knows no epochs."""
    return isinstance(runner.train_loop, IterBasedTrainLoop)


def num_epochs(runner: Runner) -> float:
    """Epochs of the whole run; the last may be cut short by ``max_iters``."""
    if is_iter_based(runner):
        return runner.max_iters / _iters_per_epoch(runner)
    return runner.max_epochs


def current_epoch(runner: Runner) -> int:
    """0-based epoch of the next (or current) iteration."""
    if is_iter_based(runner):
        return runner.iter // _iters_per_epoch(runner)
    return runner.epoch


def ends_epoch(runner: Runner) -> bool:
    """Under an iteration-based loop, in ``after_train_iter``: was it an
    epoch's last?"""
    done = runner.iter + 1
    return done % _iters_per_epoch(runner) == 0 or done == runner.max_iters
