"""Compare data loading: from the data set to the normalized batch on the device.

The measure is the CPU time of this process and all workers together. More cores
reduce the wall time, but not the CPU time.
"""

import tempfile
from pathlib import Path
from typing import Optional

import cv2
import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from torch.utils.data import DataLoader

from prkd_mm.datasets import ImageViews, PackedImages

from .comparison import Comparison, Settings, UnequalError, compare
from .images import SETS, Images, find_images, our_preprocessor
from .lower_bounds import Peaks
from .timing import OURS, STOCK, TUNED, Case, check_workers_can_be_timed

# expected on a CPU, over stock and tuned stock; photos must not be slower, up to noise
SPEEDUPS = dict(cifar100=5.0, tinyimagenet=3.0, caltech256=0.95)
_PHOTOS = 'caltech256'  # too large to be packed


def run(settings: Settings, peaks: Peaks, images: int = 1024, batch: int = 64) -> list[Comparison]:
    """Compare data loading for CIFAR-100, Tiny ImageNet and Caltech-256.

    Args:
        settings: Settings of the measurement.
        peaks: Peak throughput of the machine.
        images: Images per epoch; a round is one epoch. For photos, a quarter is used.
        batch: Images per batch.

    Raises:
        UnequalError: If the batches differ.
    """
    check_workers_can_be_timed()
    init_default_scope('mmpretrain')
    cv2.setNumThreads(0)  # as in all configs
    comparisons = []
    for name in SETS:
        with tempfile.TemporaryDirectory() as folder:
            count = max(batch, images // 4) if name == _PHOTOS else images
            found = find_images(name, count, Path(folder))
            comparisons.append(_compare(settings, peaks, name, found, batch, folder))
    return comparisons


class Feed:
    """A data loader and a data preprocessor.

    Args:
        images: Images to load.
        pipeline: ``images.pipeline`` or ``images.plain()``.
        ours: ``PackedImages`` or ``ImageViews``; None for the stock data set.
        folder: Folder of the packed file.
        device: Device of the batches.
        batch: Images per batch.
        collate_fn: 'pseudo_collate', MMEngine's default, or 'default_collate'.
        workers: Number of worker processes.
        shuffle: Whether to shuffle.
    """

    def __init__(
        self,
        images: Images,
        pipeline: list[dict],
        ours: Optional[type],
        folder: str,
        device: torch.device,
        batch: int,
        collate_fn: str = 'pseudo_collate',
        workers: int = 0,
        shuffle: bool = True,
    ) -> None:
        dataset = images.build(pipeline)
        preprocessor = images.data_preprocessor
        if ours is PackedImages:
            dataset = PackedImages(dataset, cache=folder)
        elif ours is ImageViews:
            dataset = ImageViews(dataset)
        if ours:
            collate_fn = 'whole_batch'
            preprocessor = our_preprocessor(preprocessor)
        self.loader: DataLoader = Runner.build_dataloader(
            dict(
                batch_size=batch,
                num_workers=workers,
                persistent_workers=workers > 0,
                pin_memory=device.type == 'cuda',
                collate_fn=dict(type=collate_fn),
                sampler=dict(type='DefaultSampler', shuffle=shuffle),
                dataset=dataset,
            ),
            seed=0,
        )
        self.preprocess: BaseDataPreprocessor = MODELS.build(preprocessor).to(device)
        if ours:
            self.preprocess.epoch = 0  # there is no runner to read it from

    def epoch(self) -> None:
        """Load every image once."""
        for batch in self.loader:
            self.preprocess(batch, True)

    def first(self) -> dict[str, torch.Tensor]:
        """Load the images and labels of the first batch."""
        data = self.preprocess(next(iter(self.loader)), True)
        labels = torch.cat([sample.gt_label for sample in data['data_samples']])
        return dict(images=data['inputs'], labels=labels)

    def workers(self) -> list[int]:
        """List the ids of the worker processes."""
        loader = getattr(self.loader, '_iterator', None)
        return [worker.pid for worker in getattr(loader, '_workers', ())]


def _compare(
    settings: Settings, peaks: Peaks, name: str, images: Images, batch: int, folder: str
) -> Comparison:
    stock, tuned = dict(ours=None), dict(ours=None, collate_fn='default_collate')
    feeds = [
        ('stock, 0 workers', STOCK, dict(stock, workers=0)),
        ('stock, 2 workers', STOCK, dict(stock, workers=2)),
        ('tuned stock, 0 workers', TUNED, dict(tuned, workers=0)),
        ('tuned stock, 1 worker', TUNED, dict(tuned, workers=1)),
        ('tuned stock, 2 workers', TUNED, dict(tuned, workers=2)),
    ]
    if name == _PHOTOS:
        feeds += [(f'ours, {n} workers', OURS, dict(ours=ImageViews, workers=n)) for n in (0, 2)]
    else:
        feeds.append(('ours', OURS, dict(ours=PackedImages)))
    common = dict(folder=folder, device=settings.device, batch=batch)
    check_equal(images, batch, folder, settings.device, feeds[-1][2]['ours'])
    cases = []
    for label, side, options in feeds:
        feed = Feed(images, images.pipeline, **options, **common)
        feed.epoch()  # fill the caches, start the workers, write the packed file
        cases.append(Case(label, side, feed.epoch, len(feed.loader.dataset), feed.workers))
    pixels = feed.first()['images'][0].numel()
    comparison = compare(
        settings,
        'feed',
        f'feed {SETS[name]}',
        'image',
        cases,
        clock='CPU',
        batch=1,
        lower_bound=5 * pixels / peaks.bytes,
        lower_bound_text=f'{pixels:,} bytes read, {4 * pixels:,} written, at '
        f'{peaks.bytes / 1e9:.3g} GB/s',
        notes=[
            f'{images.source}; {len(feed.loader.dataset):,} images, '
            f'batches of {batch}; CPU time of all processes together; '
            'speed-ups are over the fastest case of each side'
        ],
    )
    ours = next(label for label, side, _ in feeds if side == OURS)
    if settings.device.type == 'cpu':
        for side in (STOCK, TUNED):
            comparison.expect_speedup(ours, side, SPEEDUPS[name])
    return comparison


def check_equal(
    images: Images, batch: int, folder: str, device: torch.device, ours: type = PackedImages
) -> None:
    """Check that all loaders give the same images, and that all augment them.

    Raises:
        UnequalError: If they differ.
    """
    loaders = dict(
        stock=dict(ours=None),
        tuned=dict(ours=None, collate_fn='default_collate'),
        ours=dict(ours=ours),
    )
    common = dict(folder=folder, device=device, batch=batch, shuffle=False)
    plain = {
        name: Feed(images, images.plain(), **options, **common).first()
        for name, options in loaders.items()
    }
    for name, options in loaders.items():
        for key, expected in plain['stock'].items():
            got = plain[name][key]
            if got.dtype != expected.dtype or not torch.equal(got, expected):
                raise UnequalError(
                    f'feed: the {key} of {name} differ from those of stock; there is nothing '
                    'to compare'
                )
        augmented = Feed(images, images.pipeline, **options, **common).first()
        changed = (augmented['images'] != plain['stock']['images']).flatten(1).any(1).float().mean()
        # an image is unchanged by 1 of 2 flips and at most 1 of 81 crops
        if augmented['images'].shape != plain['stock']['images'].shape or changed < 0.75:
            raise UnequalError(
                f'feed: {name} does not crop and flip as stock does; there is nothing to compare'
            )
