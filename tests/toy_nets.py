"""Images of 8x8, nets of two convolutions, and configs of their distillation.

Importing it registers ``ToyImages`` and ``ToyBackbone`` with MMPretrain.
"""

import functools
import json
from typing import Optional

import prkd_mm  # noqa: F401  isort: skip  # before mmpretrain, which it patches
import numpy as np
import torch
from mmengine.model import BaseModule
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS, MODELS
from torch import nn

NUM_CLASSES = 4
TRAIN_SIZE = 32  # 4 iterations an epoch at BATCH_SIZE
BATCH_SIZE = 8


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

    def __init__(
        self, width=4, dropout=0.0, in_channels=3, frozen_bn=False, stride=1, init_cfg=None
    ):
        super().__init__(init_cfg)
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1)
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
