"""ViT and Swin teach and learn with the recorders of the shipped methods."""

import pytest
import torch
import toy
from mmengine.config import Config
from project import ROOT

METHOD = Config.fromfile(str(ROOT / 'configs/_base_/methods/prkd.py'))


def vit() -> dict:
    arch = dict(embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=16)
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='mmpretrain.VisionTransformer', arch=arch, img_size=8, patch_size=4, pre_norm=False
        ),
        head=dict(
            type='mmpretrain.VisionTransformerClsHead',
            num_classes=toy.NUM_CLASSES,
            in_channels=8,
            init_cfg=dict(type='Normal', layer='Linear', std=0.5),  # its default is zeros
        ),
    )


def swin() -> dict:
    arch = dict(embed_dims=8, depths=[1, 1], num_heads=[1, 1])
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='mmpretrain.SwinTransformer',
            arch=arch,
            img_size=8,
            patch_size=2,
            window_size=2,
            out_indices=(1,),
        ),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=toy.NUM_CLASSES, in_channels=16),
    )


@pytest.mark.parametrize('teacher', [vit, swin, toy.classifier])
@pytest.mark.parametrize('student', [vit, swin, toy.classifier])
def test_a_vision_transformer_can_be_distilled(teacher, student, tmp_path):
    torch.manual_seed(0)
    net = toy.build(teacher())
    torch.save(dict(state_dict=net.state_dict()), tmp_path / 'teacher.pth')
    distiller = dict(METHOD.model.distiller.to_dict(), _scope_='mmrazor')
    nets = dict(student=student(), teacher=teacher())
    cfg = toy.config(
        toy.distillation(tmp_path / 'teacher.pth', distiller=distiller, **nets),
        tmp_path,
        dict(type='TailAverageHook', num_epochs=1),
        epochs=1,
    )
    runner = toy.train(cfg)
    x = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(runner.model.teacher.logits(x), net.eval()(x))
    assert all(row['distill.loss_prkd'] > 0 for row in toy.logged(tmp_path) if 'loss' in row)
    assert (tmp_path / 'student_avg.pth').is_file()
