"""Compare whole training runs, as processes: stock, live teacher, stored views."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config

from prkd_mm.checkpoints import write_atomically

from .comparison import Comparison, Settings, Target, summarize
from .images import ROOT, stock_preprocessor, write_images
from .nets import build, load_pair
from .timing import ALONE, OURS, STOCK

PAIR = 'wrn_40_2_wrn_16_2_cifar100'
VIEWS = 8
EPOCHS = (10, 30, 240)  # extrapolated
ALL_IMAGES = 50_000  # extrapolated
METHODS, SEEDS = 6, 3  # distillation methods and seeds of a table, which also has the student alone
_EPOCHS, _VIEWS, _BATCH = 11, 5, 64  # of a measured run
_OUR_TRAIN = [str(ROOT / 'tools/train.py')]
_STOCK_TRAIN = ['-m', 'prkd_mm', 'mmrazor::train.py']
_OUR_HOOKS = ('epoch_seed', 'channels_last', 'sync_buffers', 'tail_average')
_STORED = f'ours, --store-views {VIEWS}'
_LIVE_TABLE, _STORED_TABLE = 'live teachers, ours', f'one store of {VIEWS} views'
# side of each case, its method, and whether it stores views
_CASES = {
    'stock': (STOCK, 'kd', False),
    'student alone': (ALONE, 'ce', False),
    'ours, live': (OURS, 'prkd', False),
    _STORED: (OURS, 'prkd', True),
}
# expected at 30 epochs: a run over stock, and a table over one with our live teachers
_SPEEDUPS = {
    'wrn_40_2_wrn_16_2_cifar100': (1.7, 1.0),
    'resnet32x4_resnet8x4_cifar100': (1.9, 2.3),
    'quickstart/prkd_tinyimagenet20': (1.0, 1.7),
}


class Parts(NamedTuple):
    """Cost of the parts of a run in one round, each as CPU and wall seconds."""

    start: np.ndarray  # all work outside of the epochs
    epoch: np.ndarray  # checkpoint, logs and other work that does not depend on the images
    images: np.ndarray  # training on all images once, and validation
    view: np.ndarray  # computing and storing one view of all images


class Measured(NamedTuple):
    """Cost of a run, each as CPU and wall seconds."""

    rest: np.ndarray  # all but the measured epochs: the last one, and what is outside of epochs
    epoch: np.ndarray  # median, without storing logits
    filling: np.ndarray  # median of the epochs that store logits


def total(rounds: Sequence[Parts], epochs: int, scale: float = 1.0, runs: int = 1) -> np.ndarray:
    """CPU and wall seconds (rounds, 2) of runs that share a store, extrapolated from the parts.

    ``scale`` is the number of images, relative to the measured runs.
    """
    views = min(VIEWS, epochs)
    return np.array(
        [
            runs * start + runs * epochs * (epoch + scale * images) + views * scale * view
            for start, epoch, images, view in rounds
        ]
    )


def run(settings: Settings, pairs: Sequence[str] = (PAIR,), images: int = 256) -> list[Comparison]:
    """Whole training runs, as processes (several minutes).

    A run includes the start of Python, imports, data, training, validation, checkpoints and
    logs. Each case is run on one batch of images and on all ``images``, on the CPU with one
    thread. The medians over the epochs of both runs give the costs of the parts. The images are
    synthetic.

    Raises:
        ValueError: If ``images`` is less than two batches.
        RuntimeError: If a run fails, or the runs are too short to be measured.
    """
    if images < 2 * _BATCH:
        raise ValueError(f'images must be at least {2 * _BATCH}, got {images}')
    comparisons = []
    for pair in pairs:
        parts: dict[str, list[Parts]] = {name: [] for name in _CASES}
        with tempfile.TemporaryDirectory() as folder:
            runs = _Runs(pair, Path(folder), images)
            begin = time.perf_counter()
            for rounds in range(1, settings.rounds + 1):
                for name in _CASES if rounds % 2 else reversed(_CASES):
                    with settings.console.status(f'{name}, round {rounds}'):
                        parts[name].append(measure(runs, name))
                if time.perf_counter() - begin > settings.seconds:
                    break
        for name, found in parts.items():
            check_parts(name, found)
        comparisons += [compare_runs(pair, epochs, parts, images) for epochs in EPOCHS]
        comparisons.append(compare_tables(pair, parts, images))
    return comparisons


def measure(runs: '_Runs', name: str) -> Parts:
    """Run a case on one batch and on all images, which gives the cost of its parts."""
    views = _VIEWS if _CASES[name][2] else 0
    batch, whole = (runs.time(name, views, count) for count in (_BATCH, runs.images))
    images = (whole.epoch - batch.epoch) / (1 - _BATCH / runs.images)
    view = whole.filling - whole.epoch
    start = whole.rest - whole.epoch - (view if views else 0)
    return Parts(start, whole.epoch - images, images, view)


def split_epochs(total: np.ndarray, marks: Sequence, views: int) -> Measured:
    """Cost of a run from its total and the times at the beginning of its epochs.

    The first view is stored before the first mark. The last epoch has no end.
    """
    seconds = np.diff(marks, axis=0)
    filling = seconds[1:views]
    epoch = np.median(np.concatenate([seconds[:1], seconds[max(views, 1) :]]), 0)
    rest = total - seconds.sum(0)
    return Measured(rest, epoch, np.median(filling, 0) if views else epoch)


def check_parts(name: str, rounds: Sequence[Parts]) -> None:
    """Raise a RuntimeError if the medians of the parts cannot be right."""
    _, _, images, view = np.median(rounds, 0)
    if images.min() <= 0 or view.min() < 0:
        raise RuntimeError(
            f'{name}: {images.min():.3g} s per epoch and {view.min():.3g} s per view cannot be '
            'right; the runs are too short for this machine, so increase --images'
        )


def compare_runs(pair: str, epochs: int, parts: dict[str, list[Parts]], images: int) -> Comparison:
    """Extrapolate the runs to a number of epochs, and to all images."""
    sides = {name: side for name, (side, *_) in _CASES.items()}
    totals = {name: total(rounds, epochs, ALL_IMAGES / images) for name, rounds in parts.items()}
    comparison = Comparison(
        'run',
        f'run of {epochs} epochs of {pair}',
        'run',
        'CPU',
        len(parts['stock']),
        summarize(sides, totals),
        f'{ALL_IMAGES:,} training images of 32x32; CPU time of all processes, extrapolated from '
        f'runs of {_EPOCHS} epochs on {_BATCH} and {images:,} images; the costs of the parts are '
        f'for {images:,} images',
    )
    for result in comparison.results:
        cpu = np.array(parts[result.name])[:, :, 0]  # (rounds, parts)
        result.sections = dict(zip(Parts._fields, np.median(cpu, 0).tolist()))
    if epochs == 30 and pair in _SPEEDUPS:
        comparison.expect_speedup(_STORED, STOCK, _SPEEDUPS[pair][0])
    return comparison


def compare_tables(pair: str, parts: dict[str, list[Parts]], images: int) -> Comparison:
    """Extrapolate to a table of all methods and seeds, with one store or live teachers.

    The student alone costs the same in all tables. This favors stock.
    """
    scale = ALL_IMAGES / images
    alone = total(parts['student alone'], 30, scale, SEEDS)
    cases = {
        'live teachers, stock': (STOCK, 'stock'),
        _LIVE_TABLE: (OURS, 'ours, live'),
        _STORED_TABLE: (OURS, _STORED),
    }
    totals = {
        title: alone + total(parts[name], 30, scale, METHODS * SEEDS)
        for title, (_, name) in cases.items()
    }
    comparison = Comparison(
        'run',
        f'table of {METHODS + 1} methods and {SEEDS} seeds of {pair}, 30 epochs',
        'table',
        'CPU',
        len(parts['stock']),
        summarize({title: side for title, (side, _) in cases.items()}, totals),
        f'the student alone and {METHODS} distillation methods, extrapolated from the same runs',
    )
    if pair in _SPEEDUPS:
        live, stored = (comparison[each].time.median for each in (_LIVE_TABLE, _STORED_TABLE))
        text = f'{comparison.title}: {_STORED_TABLE}, speed-up over {_LIVE_TABLE}'
        comparison.targets.append(Target(text, live / stored, at_least=_SPEEDUPS[pair][1]))
    return comparison


class _Runs:
    """Images, a teacher and configs for the runs of a pair."""

    def __init__(self, pair: str, folder: Path, images: int) -> None:
        self.pair, self.folder, self.images = pair, folder, images
        teacher = load_pair(pair, 'kd').model.teacher
        classes = teacher.head.num_classes
        # as in CIFAR, one test image for five training images; but with 100 of them and ten per
        # class, TeacherCheckHook would refuse the random teacher
        for train in {_BATCH, images}:
            test = min(train // 5, max(99, 10 * classes - 1))
            for split, count in (('train', train), ('test', test)):
                write_images(folder / f'{split}{train}', count, 32, classes, '.png')
        torch.manual_seed(0)
        state = build(teacher).state_dict()
        write_atomically(dict(state_dict=state), folder / 'teacher.pth')

    def load(self, method: str, images: int) -> Config:
        """Load the config of a run on some of the synthetic images."""
        cfg = load_pair(self.pair, method)
        for phase, split in (('train', 'train'), ('val', 'test'), ('test', 'test')):
            packed = cfg[f'{phase}_dataloader'].dataset
            steps = [s for s in packed.dataset.pipeline if s['type'].startswith('Random')]
            packed.dataset = dict(
                type='CustomDataset',
                data_root=str(self.folder / f'{split}{images}'),
                pipeline=[dict(type='LoadImageFromFile'), *steps, dict(type='PackInputs')],
            )
            packed.pop('pipeline', None)
        cfg.default_hooks.tail_average.num_epochs = 1
        return cfg

    def time(self, name: str, views: int, images: int) -> Measured:
        """Measure a run."""
        method = _CASES[name][1]
        cfg = self.load(method, images)
        cfg.train_cfg.max_epochs = _EPOCHS
        if name == 'stock':
            self.make_stock(cfg)
        elif method != 'ce':
            cfg.model.teacher_ckpt = str(self.folder / 'teacher.pth')
        with tempfile.TemporaryDirectory(dir=self.folder) as work_dir:
            cfg.work_dir = work_dir
            path, clock = Path(work_dir) / 'config.py', Path(work_dir) / 'clock.json'
            if views:
                cfg.model.teacher_logits = dict(views=views, folder=f'{work_dir}/logits')
            imports = cfg.get('custom_imports') or dict(imports=[])
            cfg.custom_imports = dict(imports=[*imports['imports'], 'benchmarks.epoch_clock'])
            cfg.custom_hooks = [
                *cfg.get('custom_hooks', []),
                dict(type='EpochClock', path=str(clock)),
            ]
            cfg.dump(str(path))
            spent = _time([*(_STOCK_TRAIN if name == 'stock' else _OUR_TRAIN), str(path)])
            return split_epochs(spent, json.loads(clock.read_text()), views)

    def make_stock(self, cfg: Config) -> None:
        """Replace the parts of a config that this project defines by stock ones."""
        cfg.model.type = 'SingleTeacherDistill'
        for key in ('teacher_ckpt', 'teacher_config'):
            cfg.model.pop(key)
        checkpoint = str(self.folder / 'teacher.pth')
        cfg.model.teacher.init_cfg = dict(type='Pretrained', checkpoint=checkpoint)
        cfg.data_preprocessor = stock_preprocessor(cfg)
        cfg.custom_hooks = []
        cfg.default_hooks.runtime_info.type = 'RuntimeInfoHook'
        for name in _OUR_HOOKS:
            cfg.default_hooks.pop(name)
        for phase in ('train', 'val', 'test'):
            loader = cfg[f'{phase}_dataloader']
            loader.dataset = loader.dataset.dataset
            loader.collate_fn = dict(type='pseudo_collate')  # MMEngine's default


def _time(arguments: Sequence[str]) -> np.ndarray:
    environment = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
    before = os.times()
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f'{" ".join(arguments)} failed:\n{done.stderr[-2000:]}')
    spent = np.subtract(os.times(), before)  # user, system, children's user and system, elapsed
    return np.array([spent[2] + spent[3], spent[4]])
