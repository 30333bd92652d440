import copy

import averaged
import numpy as np
import pytest
import torch
import toy
from torch import nn

from prkd_mm.batch_norm import recalibrate_bn

STATISTICS = ('running_mean', 'running_var')
AXES = (0, 2, 3)


def assert_only_second_changes(before, after):
    for name in STATISTICS:
        assert torch.equal(after[f'backbone.bn1.{name}'], before[f'backbone.bn1.{name}'])
        assert not torch.equal(after[f'backbone.bn2.{name}'], before[f'backbone.bn2.{name}'])


@pytest.mark.parametrize('augments', [None, 'Mixup', 'CutMix'])
def test_statistics_equal_those_computed_by_numpy(ckpt, tmp_path, augments):
    """The statistics of both layers, from one batch without augmentation.

    A configured batch augmentation must have no effect.
    """
    model = toy.distillation(ckpt)
    if augments:
        model['data_preprocessor']['batch_augments'] = dict(
            augments=[dict(type=augments, alpha=1.0)]
        )
    one_batch = {
        'train_dataloader.dataset.pipeline': [dict(type='PackInputs')],
        'train_dataloader.batch_size': toy.TRAIN_SIZE,
    }
    runner = toy.train(averaged.config(ckpt, tmp_path, model=model, **one_batch))
    x = averaged.plain_batch(runner.model.data_preprocessor, runner.train_dataloader.dataset)
    state = averaged.load(tmp_path)['state_dict']
    for i in (1, 2):
        w, b = (state[f'backbone.conv{i}.{n}'] for n in ('weight', 'bias'))
        x = nn.functional.conv2d(x.double(), w.double(), b.double(), padding=1).numpy()
        bn = {
            name: state[f'backbone.bn{i}.{name}'].double().numpy()
            for name in (*STATISTICS, 'weight', 'bias')
        }
        np.testing.assert_allclose(bn['running_mean'], x.mean(AXES), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(bn['running_var'], x.var(AXES, ddof=1), rtol=1e-4)
        normal = (x - x.mean(AXES, keepdims=True)) / np.sqrt(x.var(AXES, keepdims=True) + 1e-5)
        x = torch.from_numpy(
            np.maximum(0, normal * bn['weight'][:, None, None] + bn['bias'][:, None, None])
        )


def test_statistics_are_the_mean_over_the_batches():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
    batches = [3 * torch.randn(n, 3, 8, 8) + n for n in (4, 8, 16)]
    recalibrate_bn(net, batches)
    inputs = [net[0](x).detach().double().numpy() for x in batches]
    means = np.mean([x.mean(AXES) for x in inputs], 0)
    variances = np.mean([x.var(AXES, ddof=1) for x in inputs], 0)
    np.testing.assert_allclose(net[1].running_mean, means, rtol=1e-4)
    np.testing.assert_allclose(net[1].running_var, variances, rtol=1e-4)


def test_modes_and_momenta_are_restored_and_weights_unchanged():
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3),
        nn.BatchNorm2d(5, momentum=0.3),
        nn.BatchNorm2d(5, momentum=None),
        nn.Dropout(0.5),
    )
    net[2].eval()
    modes = [module.training for module in net.modules()]
    weights = copy.deepcopy(list(net.parameters()))
    recalibrate_bn(net, [torch.randn(4, 3, 8, 8)])
    assert [module.training for module in net.modules()] == modes
    assert (net[1].momentum, net[2].momentum) == (0.3, None)
    toy.assert_same(list(net.parameters()), weights)
    assert all(p.grad is None for p in net.parameters())


def test_frozen_batch_norm_does_not_change():
    net = toy.build(toy.classifier(frozen_bn=True))
    for name in STATISTICS:
        getattr(net.backbone.bn1, name).uniform_(0.5, 1.5)
    before = copy.deepcopy(net.state_dict())
    recalibrate_bn(net, [torch.randn(4, 3, 8, 8)])
    assert_only_second_changes(before, net.state_dict())


def test_frozen_batch_norm_does_not_change_in_a_run(ckpt, tmp_path):
    trained = dict(type='Pretrained', checkpoint=ckpt)
    net = dict(toy.classifier(width=6, frozen_bn=True), init_cfg=trained)
    toy.train(averaged.config(ckpt, tmp_path, model=toy.distillation(ckpt, student=net)))
    assert_only_second_changes(
        torch.load(ckpt)['state_dict'], averaged.load(tmp_path)['state_dict']
    )


def test_a_net_without_batch_norm_does_not_change():
    net = nn.Sequential(nn.Conv2d(3, 5, 3))
    before = copy.deepcopy(net.state_dict())
    recalibrate_bn(net, [torch.randn(4, 3, 8, 8)])
    toy.assert_same(net.state_dict(), before)


def test_at_most_one_pass_over_the_images_is_used(ckpt, tmp_path):
    variances = []
    for bn_batches in (1, 4, 100):
        work_dir = tmp_path / str(bn_batches)
        toy.train(averaged.config(ckpt, work_dir, tail=dict(bn_batches=bn_batches)))
        variances.append(averaged.load(work_dir)['state_dict']['backbone.bn1.running_var'])
    assert not torch.equal(variances[0], variances[1])
    assert torch.equal(variances[1], variances[2])
