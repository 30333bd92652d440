"""Preserve the state of random number generators, seed data workers, and draw samples."""

import math
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.registry import FUNCTIONS


@contextmanager
def untouched_random_state(gpu: bool = True) -> Iterator[None]:
    """Restore the states of all random number generators at the end.

    ``gpu`` includes the generator of the current GPU, which data workers must not use.
    """
    states = random.getstate(), np.random.get_state()
    gpus = [torch.cuda.current_device()] if gpu and torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(gpus):  # the default is all GPUs, with a warning
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@FUNCTIONS.register_module()
def seed_worker_by_epoch(worker_id: int) -> None:
    """Seed a data worker from the seed that torch drew for this epoch, and from its rank.

    Use it as ``worker_init_fn`` of a training dataloader without persistent workers. MMEngine's
    default seed depends only on the worker, so every epoch repeats the augmentations of the first
    epoch (mmengine/dataset/utils.py).
    """
    # all ranks draw the same seed; the process group does not exist in a worker
    rank = int(os.environ.get('RANK', 0))
    seed = (torch.initial_seed() + 1_000_003 * rank) % 2**32
    random.seed(seed)
    np.random.seed(seed)


def spread_indices(total: int, count: int) -> np.ndarray:
    """Draw at most ``count`` of ``total`` indices, one from each interval of equal length.

    The same arguments give the same indices, in ascending order. They cover a data set that is
    sorted by class, and do not favor a class where the classes alternate.
    """
    length = math.ceil(total / count)
    starts = np.arange(0, total, length)
    # the numbers of RandomState are the same in every version of NumPy
    drawn = starts + np.random.RandomState(0).randint(length, size=len(starts))
    return drawn.clip(max=total - 1)
