"""A task that trains in a second: 8x8 images, nets of two convolutions.

Importing it registers ``ToyImages`` and ``ToyBackbone`` with MMPretrain.
"""

import contextlib
import functools
import itertools
import json
from pathlib import Path
from typing import Optional
from unittest import mock

import prkd_mm  # noqa: F401  isort: skip  # before mmpretrain, which it patches
import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModule
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS, MODELS
from torch import nn

from prkd_mm.evaluation import unwrap

NUM_CLASSES = 4
TRAIN_SIZE = 32  # 4 iterations an epoch at BATCH_SIZE
BATCH_SIZE = 8

torch.set_num_threads(1)  # more threads are slower for such small nets
_runs = itertools.count()


@DATASETS.register_module()
class ToyImages(BaseDataset):
    """Images with one color per class and strong noise; they are always the same."""

    METAINFO = dict(classes=tuple('abcd'))

    def __init__(self, size=TRAIN_SIZE, seed=0, channels=3, **kwargs):
        self.size, self.seed, self.channels = size, seed, channels
        super().__init__(ann_file='', serialize_data=False, **kwargs)

    def load_data_list(self) -> list[dict]:
        colors = np.random.RandomState(9).rand(NUM_CLASSES, self.channels)
        noise = np.random.RandomState(self.seed).rand(self.size, 8, 8, self.channels)
        labels = np.arange(self.size) % NUM_CLASSES
        images = 64 * colors[labels, None, None] + 191 * noise
        return [
            dict(img=image, gt_label=int(label))
            for image, label in zip(images.astype(np.uint8), labels)
        ]


@MODELS.register_module()
class ToyBackbone(BaseModule):
    """Two convolutions, each with batch norm; optional dropout."""

    def __init__(self, width=4, dropout=0.0, in_channels=3, frozen_bn=False, init_cfg=None):
        super().__init__(init_cfg)
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.frozen_bn = frozen_bn

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        return (self.dropout(self.relu(self.bn2(self.conv2(x)))),)

    def train(self, mode=True):
        super().train(mode)
        if self.frozen_bn:  # as frozen_stages and norm_eval do
            self.bn1.eval()
        return self


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


def classifier(
    width=4, num_classes=NUM_CLASSES, preprocessor=None, loss_weight=1.0, **backbone
) -> dict:
    """Config of a net."""
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.ToyBackbone', width=width, **backbone),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.LinearClsHead',
            num_classes=num_classes,
            in_channels=width,
            # MMPretrain's 0.01 is for 512 features. With 4 features, the logits
            # would be almost constant, and their correlation undefined.
            init_cfg=dict(type='Normal', layer='Linear', std=0.5),
            loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=loss_weight),
        ),
        data_preprocessor=preprocessor
        and dict(type='mmpretrain.ClsDataPreprocessor', **preprocessor),
    )


def build(cfg: dict) -> nn.Module:
    """Build a model and initialize its weights."""
    model = MODELS.build(cfg)
    model.init_weights()
    return model


def logits_distiller(**losses) -> dict:
    """Config of a distiller whose losses all compare the logits."""
    recorder = dict(logits=dict(type='mmrazor.ModuleOutputs', source='head.fc'))
    mapping = dict(
        preds_S=dict(from_student=True, recorder='logits'),
        preds_T=dict(from_student=False, recorder='logits'),
    )
    return dict(
        type='mmrazor.ConfigurableDistiller',
        student_recorders=recorder,
        teacher_recorders=recorder,
        distill_losses=losses,
        loss_forward_mappings={name: mapping for name in losses},
    )


def distillation(
    teacher_ckpt: Optional[str] = None,
    student=None,
    teacher=None,
    algorithm='FrozenTeacherDistill',
    distiller=None,
    **kwargs,
) -> dict:
    """Config of a distillation with a ``PRKDLoss`` named 'loss_prkd'."""
    return dict(
        type=f'mmrazor.{algorithm}',
        architecture=student or classifier(),
        teacher=teacher or classifier(width=6),
        teacher_ckpt=teacher_ckpt and str(teacher_ckpt),
        distiller=distiller or logits_distiller(loss_prkd=dict(type='mmrazor.PRKDLoss')),
        data_preprocessor=dict(
            type='mmpretrain.ClsDataPreprocessor',
            num_classes=NUM_CLASSES,
            mean=[127.5] * 3,
            std=[60.0] * 3,
        ),
        **kwargs,
    )


@functools.cache
def _trained(cfg: str) -> dict:
    torch.manual_seed(1)
    net = build(json.loads(cfg))
    images = ToyImages(seed=7, pipeline=[])
    x = torch.stack([torch.from_numpy(sample['img']).permute(2, 0, 1) for sample in images])
    x = x[:, : net.backbone.conv1.in_channels] / 60 - 127.5 / 60
    y = torch.tensor(images.get_gt_labels())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(40):
        loss = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.state_dict()


def save_teacher(path, cfg: Optional[dict] = None) -> str:
    """Write the checkpoint of a trained net, by default wider than the student."""
    state = _trained(json.dumps(cfg or classifier(width=6)))
    torch.save(dict(meta=dict(epoch=7), state_dict=state), path)
    return str(path)


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
    pipeline = [dict(type='PackInputs')]
    augmented = [
        dict(type='RandomCrop', crop_size=8, padding=1),
        dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    ] + pipeline
    length = TRAIN_SIZE // BATCH_SIZE
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            work_dir=str(work_dir),
            experiment_name=f'toy_{next(_runs)}',  # no two share a message hub
            model=model,
            train_dataloader=dict(
                batch_size=BATCH_SIZE,
                num_workers=num_workers,
                worker_init_fn=dict(type='seed_worker_by_epoch'),
                collate_fn=dict(type='default_collate'),
                # MMEngine sleeps 2 s when an iteration-based run reaches the end
                # of the default sampler (mmengine/runner/loops.py)
                sampler=dict(
                    type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=True
                ),
                dataset=dict(type='ToyImages', pipeline=augmented),
            ),
            val_dataloader=dict(
                batch_size=BATCH_SIZE,
                num_workers=0,
                collate_fn=dict(type='default_collate'),
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(type='ToyImages', size=40, seed=5, pipeline=pipeline),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1)
            if by_epoch
            else dict(by_epoch=False, max_iters=int(epochs * length), val_interval=length),
            val_cfg=dict(),
            val_evaluator=dict(type='Accuracy', topk=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1),
                checkpoint=dict(
                    type='CheckpointHook', by_epoch=by_epoch, interval=1 if by_epoch else length
                ),
                **(dict(epoch_seed=dict(type='EpochSeedHook')) if epoch_seed and by_epoch else {}),
            ),
            custom_hooks=list(hooks),
            log_processor=dict(by_epoch=by_epoch),
            randomness=dict(seed=3),
            log_level='WARNING',
        )
    )
    cfg.merge_from_dict(options)
    return cfg


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
