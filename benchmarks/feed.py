"""Compare data loading: from the data set to the normalized batch on the device.

The measure is the CPU time of this process and all workers together. More cores
reduce the wall time, but not the CPU time.
"""

import tempfile
from pathlib import Path
from typing import Any, Optional

import cv2
import torch
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from prkd_mm.datasets import ImageViews, PackedImages

from .comparison import Comparison, Settings, Target, UnequalError, compare
from .images import SETS, Images, make_images, our_preprocessor
from .timing import OURS, STOCK, TUNED, Case

# expected on a CPU, over stock and tuned stock; photos must not be slower, up to noise
SPEEDUPS = dict(cifar100=5.0, tinyimagenet=3.0, caltech256=0.95)
_PHOTOS = 'caltech256'  # too large to be packed
_TUNED = dict(collate_fn='default_collate')


def run(settings: Settings, images: int = 1024, batch: int = 64) -> list[Comparison]:
    """Data loading, from the data set to the normalized batch on the device.

    A round is one epoch of ``images``, or of a quarter of them for photos.
    """
    init_default_scope('mmpretrain')
    cv2.setNumThreads(0)  # as in all configs
    comparisons = []
    for name in SETS:
        with tempfile.TemporaryDirectory() as folder:
            count = max(batch, images // 4) if name == _PHOTOS else images
            made = make_images(name, count, Path(folder))
            common = dict(folder=folder, device=settings.device, batch=batch)
            comparisons.append(_compare(settings, name, made, common))
    return comparisons


class Feed:
    """A data loader, with a packed file in ``folder``, and a data preprocessor.

    ``ours`` is ``PackedImages`` or ``ImageViews``; None means the stock data set and its
    ``collate_fn``.
    """

    def __init__(
        self,
        images: Images,
        pipeline: list[dict],
        folder: str,
        device: torch.device,
        batch: int,
        ours: Optional[type] = None,
        collate_fn: str = 'pseudo_collate',
        workers: int = 0,
        shuffle: bool = True,
    ) -> None:
        dataset = images.build(pipeline)
        preprocessor = images.data_preprocessor
        if ours:
            dataset = ours(dataset, cache=folder) if ours is PackedImages else ours(dataset)
            collate_fn, preprocessor = 'whole_batch', our_preprocessor(preprocessor)
        self.loader = Runner.build_dataloader(
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
        self.preprocess = MODELS.build(preprocessor).to(device)
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


def _feeds(ours: type) -> list[tuple[str, str, dict]]:
    """Name, side and options of each case."""
    feeds = [
        ('stock, 0 workers', STOCK, dict(workers=0)),
        ('stock, 2 workers', STOCK, dict(workers=2)),
        ('tuned stock, 0 workers', TUNED, dict(_TUNED, workers=0)),
        ('tuned stock, 1 worker', TUNED, dict(_TUNED, workers=1)),
        ('tuned stock, 2 workers', TUNED, dict(_TUNED, workers=2)),
    ]
    if ours is PackedImages:
        return [*feeds, ('ours', OURS, dict(ours=ours))]
    return feeds + [(f'ours, {n} workers', OURS, dict(ours=ours, workers=n)) for n in (0, 2)]


def _compare(settings: Settings, name: str, images: Images, common: dict) -> Comparison:
    ours = ImageViews if name == _PHOTOS else PackedImages
    check_equal(images, ours, **common)
    cases = []
    for label, side, options in _feeds(ours):
        feed = Feed(images, images.pipeline, **options, **common)
        feed.epoch()  # fill the caches, start the workers, write the packed file
        cases.append(Case(label, side, feed.epoch, len(feed.loader.dataset), feed.workers))
    pixels, speed = feed.first()['images'][0].numel(), settings.peaks.bytes
    comparison = compare(
        settings,
        'feed',
        f'feed {SETS[name]}',
        'image',
        cases,
        clock='CPU',
        batch=1,
        lower_bound=5 * pixels / speed,
        lower_bound_text=f'{pixels:,} bytes read, {4 * pixels:,} written, at '
        f'{speed / 1e9:.3g} GB/s',
        note=f'{images.source}; {len(feed.loader.dataset):,} images, batches of '
        f'{common["batch"]}; CPU time of all processes together; speed-ups are over the '
        'fastest case of each side',
    )
    if settings.on_cpu:
        first = next(case.name for case in cases if case.side == OURS)
        for side in (STOCK, TUNED):
            comparison.expect_speedup(first, side, SPEEDUPS[name])
        if name == _PHOTOS:
            comparison.targets = _with_equal_workers(comparison)
    return comparison


def _with_equal_workers(comparison: Comparison) -> list[Target]:
    targets = []
    for workers in (0, 2):
        ours, stock = (comparison[f'{side}, {workers} workers'] for side in ('ours', STOCK))
        for clock, kind in (('time', 'CPU'), ('wall', 'wall')):
            ratio = getattr(stock, clock).median / getattr(ours, clock).median
            text = f'{comparison.title}: {ours.name}, {kind} time, speed-up over {stock.name}'
            targets.append(Target(text, ratio, at_least=SPEEDUPS[_PHOTOS]))
    return targets


def check_equal(images: Images, ours: type, **common: Any) -> None:
    """Raise an error unless all loaders give the same images, and all augment them."""
    common['shuffle'] = False
    expected = Feed(images, images.plain(), **common).first()
    for name, options in dict(stock={}, tuned=_TUNED, ours=dict(ours=ours)).items():
        got = Feed(images, images.plain(), **options, **common).first()
        for key, value in expected.items():
            if got[key].dtype != value.dtype or not torch.equal(got[key], value):
                raise UnequalError(f'feed: the {key} of {name} differ from those of stock')
        augmented = Feed(images, images.pipeline, **options, **common).first()['images']
        plain = expected['images']
        # an image is unchanged by 1 of 2 flips and at most 1 of 81 crops
        if augmented.shape != plain.shape or (
            (augmented != plain).flatten(1).any(1).float().mean() < 0.75
        ):
            raise UnequalError(f'feed: {name} does not crop and flip as stock does')
