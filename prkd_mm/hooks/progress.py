"""Progress of a run in epochs, under either of MMEngine's train loops."""

import math

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from mmengine.hooks import LoggerHook
from mmengine.runner import IterBasedTrainLoop, Runner


def iters_per_epoch(runner: Runner) -> int:
    """Number of iterations of one rank in one pass over the training images."""
    loader = runner.train_dataloader
    # with this sampler, the length is that of the data set, not of the rank's part
    whole = isinstance(loader.sampler, InfiniteSampler)
    return math.ceil(len(loader) / (get_world_size() if whole else 1))


def is_iter_based(runner: Runner) -> bool:
    """Whether the train loop counts iterations instead of epochs."""
    return isinstance(runner.train_loop, IterBasedTrainLoop)


def num_epochs(runner: Runner) -> float:
    """Number of epochs of the run; ``max_iters`` may cut the last one short."""
    if is_iter_based(runner):
        return runner.max_iters / iters_per_epoch(runner)
    return runner.max_epochs


def current_epoch(runner: Runner) -> int:
    """0-based epoch of the next (or current) iteration."""
    if is_iter_based(runner):
        return runner.iter // iters_per_epoch(runner)
    return runner.epoch


def ends_epoch(runner: Runner) -> bool:
    """Whether an iteration-based run is in the last iteration of an epoch."""
    done = runner.iter + 1
    return done % iters_per_epoch(runner) == 0 or done == runner.max_iters


def is_logged(runner: Runner, batch_idx: int) -> bool:
    """Whether MMEngine's ``LoggerHook`` may write a line after this iteration."""
    return any(
        hook.every_n_inner_iters(batch_idx, hook.interval)
        or hook.end_of_epoch(runner.train_dataloader, batch_idx)
        for hook in runner.hooks
        if isinstance(hook, LoggerHook)
    )
