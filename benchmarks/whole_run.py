"""Compare whole training runs, as processes: stock, live teacher, stored views."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS

from prkd_mm.checkpoints import write_atomically
from prkd_mm.config import environment, load_config

from .comparison import Comparison, Result, Settings
from .images import CONFIGS, stock_preprocessor, synthetic_pixels
from .lower_bounds import Peaks
from .timing import ALONE, OURS, STOCK, Summary, speedup

PAIR = 'wrn_40_2_wrn_16_2_cifar10'
VIEWS = 8
EPOCHS = (10, 30, 240)  # extrapolated
_EPOCHS = (2, 6)  # measured
_VALIDATION = 96  # images, too few for TeacherCheckHook to refuse the random teacher
_OUR_TRAIN = [str(CONFIGS.parent / 'tools/train.py')]
_STOCK_TRAIN = ['-m', 'prkd_mm', 'mmrazor::train.py']
_OUR_HOOKS = ('epoch_seed', 'channels_last', 'sync_buffers', 'tail_average')
# name and side of each case, its method, and whether it stores views
_CASES = (
    ('stock', STOCK, 'kd', False),
    ('student alone', ALONE, 'ce', False),
    ('ours, live', OURS, 'prkd', False),
    (f'ours, --store-views {VIEWS}', OURS, 'prkd', True),
)


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

    def total(self, epochs: int) -> list[float]:
        """Compute the cost of a run with a number of epochs, by round."""
        views = min(VIEWS, epochs)
        return [s + epochs * e + views * v for s, e, v in zip(self.start, self.epoch, self.view)]


def run(settings: Settings, peaks: Peaks, pair: str = PAIR, images: int = 1024) -> list[Comparison]:
    """Compare the cost of whole runs.

    A run includes the start of Python, imports, data, training, validation,
    checkpoints and logs. Each case is run for two and for six epochs, which
    gives the costs of its start and of an epoch. The order of the cases alternates.

    Args:
        settings: Settings of the measurement. The runs use the CPU, with one thread.
        peaks: Unused; all subjects have this argument.
        pair: Name of a config in ``configs/prkd`` for CIFAR-10. The images are
            synthetic.
        images: Number of training images.

    Raises:
        RuntimeError: If a run fails, or the runs are too short to be measured.
    """
    cpu = {name: Parts() for name, *_ in _CASES}
    wall = {name: Parts() for name, *_ in _CASES}
    with tempfile.TemporaryDirectory() as folder:
        runs = _Runs(pair, Path(folder), images)
        begin = time.perf_counter()
        for rounds in range(1, settings.rounds + 1):
            for name, _, method, stores in _CASES if rounds % 2 else reversed(_CASES):
                _measure(runs, name, method, stores, cpu[name], wall[name])
            if time.perf_counter() - begin > settings.seconds:
                break
    note = (
        f'{images} training images of 32x32, {_VALIDATION} for validation; CPU time of all '
        'processes, extrapolated from runs of two and six epochs'
    )
    return [_compare(pair, epochs, cpu, wall, note) for epochs in EPOCHS]


def _measure(runs: '_Runs', name: str, method: str, stores: bool, cpu: Parts, wall: Parts) -> None:
    few, many = _EPOCHS
    views = few if stores else 0
    short, long = (runs.time(name, method, epochs, views) for epochs in _EPOCHS)
    # more views in the same number of epochs
    more_views = runs.time(name, method, many, many) if stores else long
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
    pair: str, epochs: int, cpu: dict[str, Parts], wall: dict[str, Parts], note: str
) -> Comparison:
    totals = {name: parts.total(epochs) for name, parts in cpu.items()}
    results = []
    for name, side, *_ in _CASES:
        wall_time = Summary.of(wall[name].total(epochs))
        result = Result(name, side, Summary.of(totals[name]), wall_time)
        parts = vars(cpu[name])
        result.sections = {part: Summary.of(values).median for part, values in parts.items()}
        if side == OURS:
            result.speedups[STOCK] = speedup(totals[name], totals['stock'])
            result.speedups[ALONE] = speedup(totals[name], totals['student alone'])
        results.append(result)
    title = f'run of {epochs} epochs of {pair}'
    rounds = len(totals['stock'])
    comparison = Comparison('run', title, 'run', 'CPU', rounds, results, notes=[note])
    if epochs == 30:
        comparison.expect_speedup(_CASES[-1][0], STOCK, 1.7)
    return comparison


class _Runs:
    """Images, a teacher and configs for the runs of a pair."""

    def __init__(self, pair: str, folder: Path, images: int) -> None:
        self.pair, self.folder = pair, folder
        for split, count in (('train', images), ('test', _VALIDATION)):
            for i, pixels in enumerate(synthetic_pixels(count, 32)):
                path = folder / split / f'{i % 10}' / f'{i}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), pixels)
        init_default_scope('mmpretrain')
        torch.manual_seed(0)
        teacher = MODELS.build(self._load('kd').model.teacher)
        teacher.init_weights()
        write_atomically(dict(state_dict=teacher.state_dict()), folder / 'teacher.pth')

    def _load(self, method: str) -> Config:
        with environment(PRKD_CIFAR10='cifar10_images'):
            cfg = load_config(str(CONFIGS / f'prkd/{self.pair}.py'), method)
        for phase, split in (('train', 'train'), ('val', 'test'), ('test', 'test')):
            cfg[f'{phase}_dataloader'].dataset.dataset.data_root = str(self.folder / split)
        cfg.default_hooks.tail_average.num_epochs = 1
        return cfg

    def time(self, name: str, method: str, epochs: int, views: int) -> tuple[float, float]:
        """Measure the CPU and wall seconds of a run."""
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
            pipeline = loader.dataset.get('pipeline')
            loader.dataset = loader.dataset.dataset
            if pipeline:
                loader.dataset.pipeline = pipeline
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
