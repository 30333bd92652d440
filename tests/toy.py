"""Runs that train in a second, with the nets and images of :mod:`toy_nets`."""

import contextlib
import itertools
import json
from pathlib import Path
from unittest import mock

import prkd_mm  # noqa: F401  isort: skip  # before mmpretrain, which it patches
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn
from toy_nets import (  # noqa: F401  for tests, as toy.NAME
    BATCH_SIZE,
    NUM_CLASSES,
    TRAIN_SIZE,
    ToyBackbone,
    ToyImages,
    build,
    classifier,
    distillation,
    logits_distiller,
    save_teacher,
)

from prkd_mm.evaluation import unwrap

torch.set_num_threads(1)  # more threads are slower for such small nets
_runs = itertools.count()


class Killed(Exception):
    """A run was interrupted."""


@HOOKS.register_module()
class KillHook(Hook):
    """Interrupt a run before an epoch or an iteration, as a power failure would."""

    def __init__(self, epoch=None, iteration=None):
        self.epoch, self.iteration = epoch, iteration

    def before_train_epoch(self, runner):
        if runner.epoch == self.epoch:
            raise Killed

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            raise Killed


def prkd_schedule(**kwargs) -> dict:
    """Config of the PRKD schedule."""
    return dict(
        type='LossScheduleHook',
        schedules=[
            dict(loss='loss_prkd', attr='tau', start=4.0, end=1.0),
            dict(loss='loss_prkd', attr='kl_weight', start=1.0, end=0.0),
            dict(loss='loss_prkd', attr='cor_weight', start=0.0, end=1.0),
        ],
        **kwargs,
    )


def _loaders(by_epoch: bool, num_workers: int) -> dict:
    pipeline = [dict(type='PackInputs')]
    augmented = [
        dict(type='RandomCrop', crop_size=8, padding=1),
        dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        *pipeline,
    ]
    common = dict(batch_size=BATCH_SIZE, collate_fn=dict(type='default_collate'))
    # MMEngine sleeps 2 s when an iteration-based run reaches the end of the default sampler
    # (mmengine/runner/loops.py)
    sampler = 'DefaultSampler' if by_epoch else 'InfiniteSampler'
    return dict(
        train_dataloader=dict(
            common,
            num_workers=num_workers,
            worker_init_fn=dict(type='seed_worker_by_epoch'),
            sampler=dict(type=sampler, shuffle=True),
            dataset=dict(type='ToyImages', pipeline=augmented),
        ),
        val_dataloader=dict(
            common,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='ToyImages', size=40, seed=5, pipeline=pipeline),
        ),
    )


def config(
    model: dict,
    work_dir,
    *hooks: dict,
    epochs=2,
    by_epoch=True,
    num_workers=0,
    epoch_seed=True,
    **options,
) -> Config:
    """Config of a run; ``options`` are overrides for ``Config.merge_from_dict``."""
    length = TRAIN_SIZE // BATCH_SIZE
    interval = 1 if by_epoch else length
    hooks_by_default = dict(
        logger=dict(type='LoggerHook', interval=1),
        checkpoint=dict(type='CheckpointHook', by_epoch=by_epoch, interval=interval),
    )
    if epoch_seed and by_epoch:
        hooks_by_default['epoch_seed'] = dict(type='EpochSeedHook')
    train_cfg = dict(by_epoch=by_epoch, val_interval=interval)
    train_cfg.update(dict(max_epochs=epochs) if by_epoch else dict(max_iters=int(epochs * length)))
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            work_dir=str(work_dir),
            experiment_name=f'toy_{next(_runs)}',  # no two share a message hub
            model=model,
            **_loaders(by_epoch, num_workers),
            train_cfg=train_cfg,
            val_cfg=dict(),
            val_evaluator=dict(type='Accuracy', topk=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
            default_hooks=hooks_by_default,
            custom_hooks=list(hooks),
            log_processor=dict(by_epoch=by_epoch),
            randomness=dict(seed=3),
            log_level='WARNING',
        )
    )
    cfg.merge_from_dict(options)
    return cfg


def pack(cfg: Config) -> None:
    """Let a run augment its images in whole batches, reproducibly."""
    cfg.model.data_preprocessor.type = 'mmpretrain.BatchClsDataPreprocessor'
    for part in ('train', 'val'):
        loader = cfg[f'{part}_dataloader']
        loader.collate_fn = dict(type='whole_batch')
        loader.dataset = dict(type='PackedImages', dataset=loader.dataset)


@contextlib.contextmanager
def quickly(draw: bool = False):
    """Run on the CPU, without slow steps that tests do not need."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(  # tests compare bits, even on machines with a GPU
            mock.patch('mmengine.runner.runner.get_device', lambda: 'cpu')
        )
        stack.enter_context(mock.patch('mmengine.runner.runner.collect_env', dict))
        stack.enter_context(  # each checkpoint contains a formatted config
            mock.patch('mmengine.config.config.FormatCode', lambda text, **_: (text, False))
        )
        if not draw:
            stack.enter_context(mock.patch('prkd_mm.hooks.loss_schedule_hook.plot_schedules'))
        yield


def start(cfg: Config) -> Runner:
    """Build a run."""
    with quickly():
        return Runner.from_cfg(cfg)


def train(cfg: Config, draw=False) -> Runner:
    """Train to the end; write schedule.png only if ``draw``."""
    runner = start(cfg)
    with quickly(draw):
        runner.train()
    return runner


def resume(cfg: Config, checkpoint) -> Runner:
    """Resume a run from a checkpoint, and train to the end."""
    cfg.merge_from_dict(dict(resume=True, load_from=str(checkpoint)))
    return train(cfg)


def student(runner: Runner) -> nn.Module:
    """The student of a run."""
    return unwrap(runner.model).architecture


def logged(work_dir) -> list[dict]:
    """The JSON log of a run, line by line."""
    paths = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    return [json.loads(line) for p in paths for line in open(p)]


def log_text(work_dir) -> str:
    """The text log of a run."""
    return ''.join(p.read_text() for p in Path(work_dir).glob('*/*.log'))


def assert_same(one, other, where='') -> None:
    """Assert that tensors, or nested dicts and lists of tensors, are equal bit for bit."""
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_same(one[key], other[key], f'{where}.{key}')
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other)):
            assert_same(a, b, f'{where}[{i}]')
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), where
    else:
        assert one == other, where
