import random

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS, HOOKS
from mmengine.runner import Runner, set_random_seed


@FUNCTIONS.register_module()
def seed_worker_by_epoch(worker_id: int) -> None:
    """Seed a data worker from the seed that torch drew for this epoch.

    Give it as ``worker_init_fn`` of a train dataloader without persistent
    workers. MMEngine's own one seeds by the worker alone, so that every epoch
    repeats the augmentations of the first (mmengine/dataset/utils.py).
    """
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Make an epoch's randomness a function of (seed, epoch, rank).

    With it, and :func:`seed_worker_by_epoch` where workers load the data, a
    resumed run sees the same augmentations and dropout masks as one that was
    never interrupted, bit for bit. For epoch-based loops.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        # what the data preprocessor draws crops and flips by
        runner.message_hub.update_info('augmentation_seed', runner.seed)

    def before_train_epoch(self, runner: Runner) -> None:
        # a stride that keeps (seed, epoch) and (seed + 1, epoch') apart
        seed = (runner.seed + 1_000_003 * (runner.epoch + 1)) % 2**31
        set_random_seed(seed, diff_rank_seed=True)
