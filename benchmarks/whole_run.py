"""Compare whole training runs, as processes: stock, live teacher, stored views."""

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
_FEW, _MANY = 2, 10  # epochs that are measured
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
    logs. Each case is run for two and for ten epochs, and for ten epochs with twice the images,
    on the CPU with one thread. This gives the costs of its parts. The images are synthetic.

    Raises:
        RuntimeError: If a run fails, or the runs are too short to be measured.
    """
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
    """Run a case three or four times, which gives the cost of its parts."""
    few, many = (_FEW, VIEWS) if _CASES[name][2] else (0, 0)
    short = runs.time(name, _FEW, few)
    long = runs.time(name, _MANY, few)
    large = runs.time(name, _MANY, few, images=2)
    # the same run with more views gives the cost of a view
    view = (runs.time(name, _MANY, many) - long) / (many - few) if many else np.zeros(2)
    whole = (long - short) / (_MANY - _FEW)
    images = (large - long - few * view) / _MANY
    return Parts(short - _FEW * whole - few * view, whole - images, images, view)


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
        f'runs of {_FEW} and {_MANY} epochs on {images:,} and {2 * images:,} images; the costs of '
        f'the parts are for {images:,} images',
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
        self.pair, self.folder = pair, folder
        teacher = load_pair(pair, 'kd').model.teacher
        classes = teacher.head.num_classes
        # with ten test images per class, TeacherCheckHook would refuse the random teacher
        tests = min(2 * images // 5, max(99, 10 * classes - 1))
        for size in (1, 2):  # as in CIFAR, one test image for five training images
            for split, count in (('train', size * images), ('test', size * tests // 2)):
                write_images(folder / f'{split}{size}', count, 32, classes, '.png')
        torch.manual_seed(0)
        state = build(teacher).state_dict()
        write_atomically(dict(state_dict=state), folder / 'teacher.pth')

    def load(self, method: str, images: int = 1) -> Config:
        """Load the config of a run on the synthetic images, or on twice as many."""
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

    def time(self, name: str, epochs: int, views: int, images: int = 1) -> np.ndarray:
        """Measure the CPU and wall seconds of a run."""
        method = _CASES[name][1]
        cfg = self.load(method, images)
        cfg.train_cfg.max_epochs = epochs
        if name == 'stock':
            self.make_stock(cfg)
        elif method != 'ce':
            cfg.model.teacher_ckpt = str(self.folder / 'teacher.pth')
        with tempfile.TemporaryDirectory(dir=self.folder) as work_dir:
            cfg.work_dir = work_dir
            path = Path(work_dir) / 'config.py'
            if views:
                cfg.model.teacher_logits = dict(views=views, folder=f'{work_dir}/logits')
            cfg.dump(str(path))
            return _time([*(_STOCK_TRAIN if name == 'stock' else _OUR_TRAIN), str(path)])

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
