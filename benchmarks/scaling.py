"""How cost grows: with classes, batch, images, epochs and ranks."""

import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmengine.registry import init_default_scope

from prkd_mm.datasets import PackedImages
from prkd_mm.teachers.logit_store import size_in_bytes

from .comparison import Settings
from .floors import forward_flops
from .images import in_memory
from .loss import Problem, losses
from .nets import PAIRS, Pair
from .timing import OURS, STOCK, Case, Summary

VIEWS = 16
_IMAGES = dict(CIFAR=(50_000, 100), TinyImageNet=(100_000, 200), ImageNet=(1_281_167, 1000))


@dataclass
class Curves:
    """A plot: several curves over one axis.

    Args:
        title (str): What grows.
        x_label (str): With what.
        y_label (str): In which unit.
        x (list[float]): Where it was measured.
        curves (dict): Values by name.
    """

    title: str
    x_label: str
    y_label: str
    x: list[float]
    curves: dict[str, list[float]]


def run(settings: Settings, quick: bool = False) -> list[Curves]:
    """Measure, or count, how each cost grows.

    Args:
        settings (Settings): How to measure; three rounds each.
        quick (bool): Few small sizes, for a trial. Defaults to False.
    """
    init_default_scope('mmpretrain')
    few = 2 if quick else None
    settings.say('scaling ...')
    classes = (10, 100, 1000, 10_000)[:few]
    batches = (16, 64, 256, 1024)[:few]
    images = (200, 400) if quick else (1000, 4000, 16_000)
    return [
        _loss_curves(
            settings, 'classes, batch 256', 'classes', classes, [(256, c) for c in classes]
        ),
        _loss_curves(
            settings, 'batch, 1,000 classes', 'samples', batches, [(b, 1000) for b in batches]
        ),
        *_feed_curves(settings, images),
        _rank_curves(images[-1], (1, 2)),
        _store_curves(),
        _epoch_curves(settings.device),
    ]


def _loss_curves(
    settings: Settings,
    title: str,
    label: str,
    x: Sequence[float],
    shapes: Sequence[tuple[int, int]],
) -> Curves:
    curves: dict[str, list[float]] = {}
    for shape in shapes:
        problem = Problem(*shape, settings.device)
        cases = []
        for name, (side, function) in losses().items():
            if side in (STOCK, OURS):
                problem.step(function)
                cases.append(Case(name, side, lambda f=function: problem.step(f)))
        samples = settings.measure(title, cases)
        for name, sample in samples.items():
            seconds = Summary.of(getattr(sample, settings.clock_name.lower())).median
            curves.setdefault(name, []).append(1e3 * seconds)
    return Curves(f'loss over {title}', label, 'ms', list(x), curves)


def _feed_curves(settings: Settings, counts: Sequence[int]) -> list[Curves]:
    pipeline = [dict(type='PackInputs')]
    opening, first, each = [], [], []
    for count in counts:
        dataset = in_memory(count)(pipeline)
        with tempfile.TemporaryDirectory() as folder:
            for seconds in (first, opening):  # packs it; finds it packed
                start = time.process_time()
                packed = PackedImages(dataset, cache=folder)
                seconds.append(time.process_time() - start)
            each.append(1e6 * _feed(packed))
            del packed
    return [
        Curves(
            'opening a packed set',
            'images',
            's of CPU time',
            list(counts),
            {'packed before': opening, 'packing it': first},
        ),
        Curves(
            'fetching an image of it',
            'images',
            'µs of CPU time',
            list(counts),
            {'batches of 64': each},
        ),
    ]


def _feed(packed: PackedImages, batch: int = 64) -> float:
    """CPU seconds to fetch an image, best of three passes."""
    order = torch.randperm(len(packed)).tolist()
    best = float('inf')
    for _ in range(3):
        start = time.process_time()
        for i in range(0, len(order), batch):
            packed.__getitems__(order[i : i + batch])
        best = min(best, time.process_time() - start)
    return best / len(order)


def _rank(packed: PackedImages, rank: int, ranks: int, queue) -> None:
    packed.labels = packed.labels[: len(packed) // ranks]
    queue.put(_feed(packed))


def _rank_curves(count: int, ranks: Sequence[int]) -> Curves:
    """CPU time an image where ranks share a packed set."""
    # forked: to start anew each would import for seconds
    context = multiprocessing.get_context('fork')
    each = []
    with tempfile.TemporaryDirectory() as folder:
        packed = PackedImages(in_memory(count)([dict(type='PackInputs')]), cache=folder)
        for n in ranks:
            queue = context.Queue()
            processes = [
                context.Process(target=_rank, args=(packed, i, n, queue)) for i in range(n)
            ]
            for process in processes:
                process.start()
            seconds = [queue.get(timeout=120) for _ in processes]
            for process in processes:
                process.join()
            each.append(1e6 * Summary.of(seconds).median)
        del packed
    return Curves(
        'fetching an image, ranks sharing one file',
        'ranks',
        'µs of CPU time',
        list(ranks),
        {'batches of 64': each},
    )


def _store_curves() -> Curves:
    views = [1, 4, 16, 64, 240]
    curves = {
        f'{name}, all {classes} classes': [size_in_bytes(k, images, classes) / 1e9 for k in views]
        for name, (images, classes) in _IMAGES.items()
    }
    images, classes = _IMAGES['ImageNet']
    curves['ImageNet, topk=20'] = [size_in_bytes(k, images, classes, 20) / 1e9 for k in views]
    return Curves('stored logits (counted)', 'views', 'GB', views, curves)


def _epoch_curves(device: torch.device) -> Curves:
    """FLOPs of a run with a live teacher and with stored logits."""
    pair = Pair(PAIRS[1], device, batch=2)
    teacher, student = (
        forward_flops(net, 32) * 50_000 / 1e15 for net in (pair.teacher, pair.student)
    )
    epochs = [1, 16, 60, 120, 240]
    return Curves(
        f'{pair.name}, 50,000 images (counted)',
        'epochs',
        'PFLOP',
        epochs,
        {
            'live teacher': [e * (teacher + 3 * student) for e in epochs],
            f'{VIEWS} views stored first': [VIEWS * teacher + e * 3 * student for e in epochs],
            'student alone': [e * 3 * student for e in epochs],
        },
    )
