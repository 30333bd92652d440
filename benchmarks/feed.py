"""From the data set to the normalised batch on the device: what it costs.

CPU time counts, of this process and all workers together: with enough cores
wall time can be bought, CPU time cannot.
"""

import tempfile
from pathlib import Path

import cv2
import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from torch.utils.data import DataLoader

from prkd_mm.datasets import PackedImages

from .comparison import Comparison, Settings, UnequalError, compare
from .floors import Peaks
from .images import SETS, Images, find_images, our_preprocessor
from .timing import OURS, STOCK, TUNED, Case, check_workers_can_be_timed

BARS = dict(cifar100=5.0, tinyimagenet=3.0)  # on a CPU
_WORKERS = (0, 1, 2)


def run(settings: Settings, peaks: Peaks, images: int = 1024, batch: int = 64) -> list[Comparison]:
    """Compare the ways to feed CIFAR-100 and Tiny ImageNet.

    Args:
        settings (Settings): How to measure.
        peaks (Peaks): Of the machine.
        images (int): In an epoch, which is what a round takes. Defaults to
            1024.
        batch (int): Images in a batch. Defaults to 64.

    Raises:
        UnequalError: The ways do not give the same batches.
    """
    check_workers_can_be_timed()
    init_default_scope('mmpretrain')
    cv2.setNumThreads(0)  # as all configs have it
    comparisons = []
    for name in SETS:
        with tempfile.TemporaryDirectory() as folder:
            found = find_images(name, images, Path(folder))
            comparisons.append(_compare(settings, peaks, name, found, batch, folder))
    return comparisons


class Feed:
    """A data loader and a data preprocessor.

    Args:
        images (Images): What to feed.
        pipeline (list[dict]): ``images.pipeline`` or ``images.plain()``.
        packed (bool): Whether by :class:`PackedImages`.
        folder (str): For its file.
        device (torch.device): Where to.
        batch (int): Images in a batch.
        collate_fn (str): 'pseudo_collate' or 'default_collate'. Defaults to
            'pseudo_collate', MMEngine's own default.
        workers (int): Defaults to 0.
        shuffle (bool): Defaults to True.
    """

    def __init__(
        self,
        images: Images,
        pipeline: list[dict],
        packed: bool,
        folder: str,
        device: torch.device,
        batch: int,
        collate_fn: str = 'pseudo_collate',
        workers: int = 0,
        shuffle: bool = True,
    ) -> None:
        dataset = images.build(pipeline)
        preprocessor = images.data_preprocessor
        if packed:
            dataset = PackedImages(dataset, cache=folder)
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
        if packed:
            self.preprocess.epoch = 0  # there is no run that counts

    def epoch(self) -> None:
        """Feed every image once."""
        for batch in self.loader:
            self.preprocess(batch, True)

    def first(self) -> dict[str, torch.Tensor]:
        """Images and labels of the first batch."""
        data = self.preprocess(next(iter(self.loader)), True)
        labels = torch.cat([sample.gt_label for sample in data['data_samples']])
        return dict(images=data['inputs'], labels=labels)

    def workers(self) -> list[int]:
        """Ids of the worker processes."""
        loader = getattr(self.loader, '_iterator', None)
        return [worker.pid for worker in getattr(loader, '_workers', ())]


def _compare(
    settings: Settings, peaks: Peaks, name: str, images: Images, batch: int, folder: str
) -> Comparison:
    common = dict(folder=folder, device=settings.device, batch=batch)
    ways = {
        ('stock, 0 workers', STOCK): dict(packed=False),
        ('stock, 2 workers', STOCK): dict(packed=False, workers=2),
        **{
            (f'tuned stock, {n} workers', TUNED): dict(
                packed=False, workers=n, collate_fn='default_collate'
            )
            for n in _WORKERS
        },
        ('ours', OURS): dict(packed=True),
    }
    check_equal(images, batch, folder, settings.device)
    cases = []
    for (label, side), way in ways.items():
        feed = Feed(images, images.pipeline, **way, **common)
        feed.epoch()  # caches, workers, the packed file
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
        floor=5 * pixels / peaks.bytes,
        floor_text=f'{pixels:,} bytes read, {4 * pixels:,} written, at '
        f'{peaks.bytes / 1e9:.3g} GB/s',
        notes=[
            f'{images.source}; {len(feed.loader.dataset):,} of them, '
            f'batches of {batch}; CPU time of all processes together; '
            'speed-ups are over the cheapest of a side'
        ],
    )
    if settings.device.type == 'cpu':
        for side in (STOCK, TUNED):
            comparison.expect_speedup('ours', side, BARS[name])
    return comparison


def check_equal(images: Images, batch: int, folder: str, device: torch.device) -> None:
    """See that all ways give the same images, and all augment them.

    Raises:
        UnequalError: They do not.
    """
    ways = dict(
        stock=dict(packed=False),
        tuned=dict(packed=False, collate_fn='default_collate'),
        ours=dict(packed=True),
    )
    common = dict(folder=folder, device=device, batch=batch, shuffle=False)
    plain = {
        name: Feed(images, images.plain(), **way, **common).first() for name, way in ways.items()
    }
    for name, way in ways.items():
        for key, expected in plain['stock'].items():
            got = plain[name][key]
            if got.dtype != expected.dtype or not torch.equal(got, expected):
                raise UnequalError(
                    f'feed: the {key} of {name} are not those of stock; there is nothing to compare'
                )
        augmented = Feed(images, images.pipeline, **way, **common).first()
        changed = (augmented['images'] != plain['stock']['images']).flatten(1).any(1).float().mean()
        # not at all: 1 of 2 flips times 1 of 81 crops or fewer
        if augmented['images'].shape != plain['stock']['images'].shape or changed < 0.75:
            raise UnequalError(
                f'feed: {name} does not crop and flip as stock does; there is nothing to compare'
            )
