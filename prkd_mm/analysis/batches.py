"""Fixed images to evaluate nets on: the same images in every pass."""

import copy
from collections.abc import Iterable, Iterator
from typing import Any, Callable, Optional

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, set_random_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from ..batch_norm import recalibrate_bn, recalibration_loader
from ..checks.class_checks import Classes, classes_of
from ..deploy.average import training_loader
from ..randomness import untouched_random_state

Batch = tuple[Tensor, Tensor]
SPLITS = dict(train='the training set', val='the validation set')


class Batches:
    """The same samples in every pass, as ``(inputs, labels)`` on the device.

    They stay in memory if all of them fit into ``memory`` bytes; otherwise every pass loads
    them again, in the same order and with the random numbers of ``seed``. A pass has at most
    ``limit`` batches.
    """

    def __init__(
        self,
        loader: DataLoader,
        preprocess: Callable,
        limit: Optional[int] = None,
        seed: int = 0,
        memory: int = 2**30,
    ) -> None:
        self.loader, self.preprocess = loader, preprocess
        self.limit = min(limit or len(loader), len(loader))
        self.seed, self.memory = seed, memory
        self._kept: Optional[list[Batch]] = None

    def __len__(self) -> int:
        return self.limit

    def __iter__(self) -> Iterator[Batch]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Batch] = []
        size = 0
        for batch in self._load():
            size += sum(x.nbytes for x in batch)
            if size <= self.memory:
                kept.append(batch)
            else:
                kept.clear()
            yield batch
        if size <= self.memory:
            self._kept = kept

    def _load(self) -> Iterator[Batch]:
        with untouched_random_state():
            set_random_seed(self.seed)
            for _, batch in zip(range(self.limit), self.loader):
                data = self.preprocess(batch, False)
                labels = torch.cat([sample.gt_label for sample in data['data_samples']])
                yield data['inputs'], labels


def load_batches(
    cfg: Config,
    split: str,
    preprocess: Callable,
    samples: Optional[int] = None,
    batch_size: Optional[int] = None,
    seed: int = 0,
) -> Batches:
    """Images of a config's training or validation set, without augmentation.

    Args:
        cfg, preprocess: The config, and the preprocessor of :class:`~prkd_mm.analysis.nets.Nets`.
        split: 'val', or 'train' for the training images with the validation pipeline.
        samples, seed: Number of images to draw, and the seed of this draw; default: all images.
        batch_size: Images per batch; default: the batch size of validation.
    """
    loader = _loader(cfg, split, seed)
    dataset = loader.dataset
    if samples is not None and samples < len(dataset):
        drawn = np.random.RandomState(seed).permutation(len(dataset))
        dataset = Subset(dataset, sorted(drawn[:samples].tolist()))
    return Batches(
        DataLoader(
            dataset,
            batch_size=min(batch_size or loader.batch_size, len(dataset)),
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
        ),
        preprocess,
        seed=seed,
    )


def classes_in(cfg: Config, split: str) -> Classes:
    """Names of the classes of the images of :func:`load_batches`, or None without names."""
    return classes_of(_loader(cfg, split).dataset)


def _loader(cfg: Config, split: str, seed: int = 0) -> Any:
    if not cfg.get('val_dataloader'):
        raise ValueError('the config has no val_dataloader, whose images the studies need')
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    loader_cfg = copy.deepcopy(cfg.val_dataloader)
    if split == 'train':
        pipeline = _innermost(loader_cfg.dataset).pipeline
        loader_cfg.dataset = copy.deepcopy(cfg.train_dataloader.dataset)
        _innermost(loader_cfg.dataset).pipeline = pipeline
        # a wrapper such as ImageViews needs its own
        loader_cfg.collate_fn = cfg.train_dataloader.get('collate_fn', dict(type='pseudo_collate'))
    return Runner.build_dataloader(loader_cfg, seed=seed)


def _innermost(dataset: ConfigDict) -> ConfigDict:
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    if 'pipeline' not in dataset:
        raise ValueError(
            f'the data set {dataset.get("type")} of the config has no `pipeline`, so its '
            'images cannot be loaded without augmentation'
        )
    return dataset


def training_batches(
    cfg: Config, preprocess: nn.Module, limit: int = 100, seed: int = 0, epoch: int = 0
) -> Batches:
    """The augmented batches with which ``TailAverageHook`` estimates batch-norm statistics.

    There are at most ``limit`` of them. The augmentation is that of the 0-based ``epoch``, the
    last one of a run with this ``seed``. ``preprocess`` is as in :func:`load_batches`.
    """
    loader = recalibration_loader(training_loader(cfg, preprocess, epoch, seed), seed)
    return Batches(loader, preprocess, limit, seed)


@torch.no_grad()
def collect_logits(
    nets: dict[str, Callable[[Tensor], Tensor]], batches: Iterable[Batch]
) -> tuple[dict[str, Tensor], Tensor]:
    """Logits ``(N, C)`` of several nets on the same samples in one pass, and the labels."""
    logits: dict[str, list[Tensor]] = {name: [] for name in nets}
    labels = []
    for inputs, targets in batches:
        for name, net in nets.items():
            logits[name].append(net(inputs).float().cpu())
        labels.append(targets.cpu())
    return {name: torch.cat(x) for name, x in logits.items()}, torch.cat(labels)


@torch.no_grad()
def predict(batches: Iterable[Batch], net: nn.Module) -> Tensor:
    """Predicted classes ``(N,)`` of a net, on the CPU."""
    return torch.cat([net(inputs).argmax(1).cpu() for inputs, _ in batches])


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy in percent of predicted classes ``(N,)``."""
    return 100 * (predicted == labels).double().mean().item()


def recalibrate(batches: Batches, net: nn.Module) -> None:
    """Re-estimate the batch-norm statistics of a net from all batches."""
    recalibrate_bn(net, (inputs for inputs, _ in batches))
