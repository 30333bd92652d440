"""Compare whole training runs, as processes: stock, live teacher, stored views."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine.config import Config

from prkd_mm.checkpoints import write_atomically

from .comparison import Comparison, Settings, summarize
from .images import CONFIGS, stock_preprocessor, write_images
from .nets import build, load_pair
from .timing import ALONE, OURS, STOCK, Summary

PAIR = 'wrn_40_2_wrn_16_2_cifar10'
VIEWS = 8
EPOCHS = (10, 30, 240)  # extrapolated
ALL_IMAGES = 50_000  # extrapolated
TABLE = (6, 3)  # distilling methods and seeds of a table, which has the student alone, too
_EPOCHS = (2, 6)  # measured
_VALIDATION = 96  # images at most, too few for TeacherCheckHook to refuse the random teacher
_OUR_TRAIN = [str(CONFIGS.parent / 'tools/train.py')]
_STOCK_TRAIN = ['-m', 'prkd_mm', 'mmrazor::train.py']
_OUR_HOOKS = ('epoch_seed', 'channels_last', 'sync_buffers', 'tail_average')
_STORED = f'ours, --store-views {VIEWS}'
# side of each case, its method, and whether it stores views
_CASES = {
    'stock': (STOCK, 'kd', False),
    'student alone': (ALONE, 'ce', False),
    'ours, live': (OURS, 'prkd', False),
    _STORED: (OURS, 'prkd', True),
}
# expected at 30 epochs: a run over stock, and a table over one with live teachers
_SPEEDUPS = {
    'wrn_40_2_wrn_16_2_cifar10': (1.7, 1.0),
    'resnet32x4_resnet8x4_cifar100': (1.9, 2.3),
    'quickstart/prkd_tinyimagenet20': (1.0, 1.7),
}


@dataclass
class Parts:
    """Cost of a run in seconds, one value per round.

    Attributes:
        start: All work outside of the epochs.
        epoch: One epoch of training, validation, checkpoint and logs.
        view: Computing and storing one view of all images.
    """

    start: list[float] = field(default_factory=list)
    epoch: list[float] = field(default_factory=list)
    view: list[float] = field(default_factory=list)

    def total(self, epochs: int, scale: float = 1.0, runs: int = 1) -> list[float]:
        """Compute the cost of runs with a number of epochs, by round.

        Args:
            epochs: Number of epochs.
            scale: Number of images, relative to the measured runs.
            runs: Number of runs that share a store.
        """
        views = min(VIEWS, epochs)
        return [
            runs * s + scale * (runs * epochs * e + views * v)
            for s, e, v in zip(self.start, self.epoch, self.view)
        ]


def run(settings: Settings, pairs: Sequence[str], images: int) -> list[Comparison]:
    """Compare the cost of whole runs, and of tables of several methods and seeds.

    A run includes the start of Python, imports, data, training, validation,
    checkpoints and logs. Each case is run for two and for six epochs, which
    gives the costs of its start and of an epoch. The order of the cases alternates.

    Args:
        settings: Settings of the measurement. The runs use the CPU, with one thread.
        pairs: Names of configs in ``configs/prkd`` for images of 32x32. The images are
            synthetic.
        images: Number of training images.

    Raises:
        RuntimeError: If a run fails, or the runs are too short to be measured.
    """
    comparisons = []
    for pair in pairs:
        cpu, wall = ({name: Parts() for name in _CASES} for _ in range(2))
        with tempfile.TemporaryDirectory() as folder:
            runs = _Runs(pair, Path(folder), images)
            begin = time.perf_counter()
            for rounds in range(1, settings.rounds + 1):
                for name in _CASES if rounds % 2 else reversed(_CASES):
                    with settings.console.status(f'{name}, round {rounds}'):
                        _measure(runs, name, cpu[name], wall[name])
                if time.perf_counter() - begin > settings.seconds:
                    break
        scale = ALL_IMAGES / images
        comparisons += [_compare(pair, epochs, cpu, wall, scale) for epochs in EPOCHS]
        comparisons.append(_compare_tables(pair, cpu, wall, scale))
    return comparisons


def _measure(runs: '_Runs', name: str, cpu: Parts, wall: Parts) -> None:
    few, many = _EPOCHS
    stores = _CASES[name][2]
    views = few if stores else 0
    short, long = (runs.time(name, epochs, views) for epochs in _EPOCHS)
    # more views in the same number of epochs
    more_views = runs.time(name, many, many) if stores else long
    for i, parts in enumerate((cpu, wall)):
        view = (more_views[i] - long[i]) / (many - few)
        epoch = (long[i] - short[i]) / (many - few)
        if epoch <= 0 or view < 0:
            raise RuntimeError(
                f'{name}: {epoch:.3g} s per epoch and {view:.3g} s per view cannot be right; the '
                'runs are too short for this machine, so increase --images'
            )
        parts.view.append(view)
        parts.epoch.append(epoch)
        parts.start.append(short[i] - few * epoch - views * view)


def _compare(
    pair: str, epochs: int, cpu: dict[str, Parts], wall: dict[str, Parts], scale: float
) -> Comparison:
    times, walls = (
        {name: parts.total(epochs, scale) for name, parts in each.items()} for each in (cpu, wall)
    )
    results = summarize({name: side for name, (side, *_) in _CASES.items()}, times, walls)
    for result in results:
        parts = vars(cpu[result.name])
        result.sections = {part: Summary.of(values).median for part, values in parts.items()}
    comparison = Comparison(
        'run',
        f'run of {epochs} epochs of {pair}',
        'run',
        'CPU',
        len(times['stock']),
        results,
        f'{ALL_IMAGES:,} training images of 32x32; CPU time of all processes, extrapolated from '
        f'runs of {_EPOCHS[0]} and {_EPOCHS[1]} epochs on {ALL_IMAGES / scale:,.0f} images, to '
        f'which the costs of an epoch and a view refer',
    )
    if epochs == 30 and pair in _SPEEDUPS:
        comparison.expect_speedup(_STORED, STOCK, _SPEEDUPS[pair][0])
    return comparison


def _compare_tables(
    pair: str, cpu: dict[str, Parts], wall: dict[str, Parts], scale: float
) -> Comparison:
    methods, seeds = TABLE
    names = {'live teachers': 'ours, live', f'one store of {VIEWS} views': _STORED}
    sides = dict(zip(names, (STOCK, OURS)))

    def totals(parts: dict[str, Parts]) -> dict[str, list[float]]:
        alone = parts['student alone'].total(30, scale, seeds)
        return {
            title: [a + b for a, b in zip(alone, parts[name].total(30, scale, methods * seeds))]
            for title, name in names.items()
        }

    comparison = Comparison(
        'run',
        f'table of {methods + 1} methods and {seeds} seeds of {pair}, 30 epochs',
        'table',
        'CPU',
        len(cpu['stock'].start),
        summarize(sides, totals(cpu), totals(wall)),
        f'the student alone and {methods} distilling methods, extrapolated from the same runs',
    )
    if pair in _SPEEDUPS:
        comparison.expect_speedup(comparison.results[1].name, STOCK, _SPEEDUPS[pair][1])
    return comparison


class _Runs:
    """Images, a teacher and configs for the runs of a pair."""

    def __init__(self, pair: str, folder: Path, images: int) -> None:
        self.pair, self.folder = pair, folder
        teacher = load_pair(pair, 'kd').model.teacher
        # CIFAR has a fifth as many, too
        for split, count in (('train', images), ('test', min(images // 5, _VALIDATION))):
            write_images(folder / split, count, 32, teacher.head.num_classes, '.png')
        torch.manual_seed(0)
        state = build(teacher).state_dict()
        write_atomically(dict(state_dict=state), folder / 'teacher.pth')

    def _load(self, method: str) -> Config:
        cfg = load_pair(self.pair, method)
        for phase, split in (('train', 'train'), ('val', 'test'), ('test', 'test')):
            packed = cfg[f'{phase}_dataloader'].dataset
            steps = [s for s in packed.dataset.pipeline if s['type'].startswith('Random')]
            packed.dataset = dict(
                type='CustomDataset',
                data_root=str(self.folder / split),
                pipeline=[dict(type='LoadImageFromFile'), *steps, dict(type='PackInputs')],
            )
            packed.pop('pipeline', None)
        cfg.default_hooks.tail_average.num_epochs = 1
        return cfg

    def time(self, name: str, epochs: int, views: int) -> tuple[float, float]:
        """Measure the CPU and wall seconds of a run."""
        method = _CASES[name][1]
        cfg = self._load(method)
        cfg.train_cfg.max_epochs = epochs
        if name == 'stock':
            self._make_stock(cfg)
        elif method != 'ce':
            cfg.model.teacher_ckpt = str(self.folder / 'teacher.pth')
        with tempfile.TemporaryDirectory(dir=self.folder) as work_dir:
            cfg.work_dir = work_dir
            path = Path(work_dir) / 'config.py'
            if views:
                cfg.model.teacher_logits = dict(views=views, folder=f'{work_dir}/logits')
            cfg.dump(str(path))
            train = _STOCK_TRAIN if name == 'stock' else _OUR_TRAIN
            return _time([sys.executable, *train, str(path)])

    def _make_stock(self, cfg: Config) -> None:
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


def _time(command: Sequence[str]) -> tuple[float, float]:
    environment = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(CONFIGS.parent))
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    after, end = os.times(), time.perf_counter()
    if done.returncode:
        raise RuntimeError(f'{" ".join(command)} failed:\n{done.stderr[-2000:]}')
    cpu = after.children_user + after.children_system
    return cpu - before.children_user - before.children_system, end - start
