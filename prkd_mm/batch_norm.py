"""Re-estimate batch-norm statistics, and load training batches for that."""

from collections.abc import Iterable
from itertools import islice
from typing import Any, Callable

import torch
from mmengine.dataset import DefaultSampler
from mmengine.runner import set_random_seed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from .randomness import seed_worker_by_epoch, untouched_random_state


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The batch-norm layers of a net that keep running statistics."""
    return [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    ]


def recalibration_loader(train: DataLoader, seed: int) -> DataLoader:
    """A loader of training images for :func:`recalibrate_bn`, shuffled by a seed.

    It has the data set, batch size, collation and number of workers of the run's training loader,
    whose own workers may be in use. It loads the same images in every call.
    """
    batches: Any = train.batch_sampler
    size = train.batch_size or batches.batch_size
    sampler = DefaultSampler(train.dataset, shuffle=True, seed=seed)
    return DataLoader(
        train.dataset,
        batch_size=size,
        sampler=sampler,
        drop_last=len(sampler) >= size,
        num_workers=train.num_workers,
        collate_fn=train.collate_fn,
        worker_init_fn=seed_worker_by_epoch,
    )


def recalibrate_bn(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Re-estimate batch-norm statistics as the mean over ``batches``, at least one.

    Running mean and variance become the unweighted means of the batches' means and unbiased
    variances. Layers that a net keeps in evaluation mode (frozen stages, ``norm_eval``) are left
    unchanged. Modes and momenta are restored.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    layers = [layer for layer in batch_norms(model) if layer.training]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch's cumulative average
    if layers:
        with torch.no_grad():
            for inputs in batches:
                model(inputs)
    for layer, momentum in zip(layers, momenta):
        layer.momentum = momentum
    for module, mode in modes:
        module.training = mode


def recalibrate_on_training_images(
    model: nn.Module, train: DataLoader, preprocess: Callable, seed: int, number: int
) -> None:
    """Re-estimate batch-norm statistics on training images, without batch augmentation.

    At most ``number`` batches are used, and at most one epoch. The seed determines the order of the
    images and their augmentation. The random state of the process is unchanged.
    """
    loader = recalibration_loader(train, seed)
    with untouched_random_state():
        set_random_seed(seed, diff_rank_seed=True)
        batches = islice(loader, number)  # starts the loader, which draws a random number
        # not in training mode, where the preprocessor applies mixup and the like
        recalibrate_bn(model, (preprocess(batch, False)['inputs'] for batch in batches))
