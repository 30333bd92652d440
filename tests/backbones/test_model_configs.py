"""The nets of the CIFAR-100 tables, as `configs/_base_/models` has them."""
from pathlib import Path

import community
import pytest
import torch
from mmengine import Config
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/_base_/models'


def build(file):
    cfg = Config.fromfile(CONFIGS / f'{file}_32x32.py')
    (name, model), = cfg.items()
    assert name == file
    return MODELS.build(model)


def test_there_is_one_for_each_net():
    files = {path.name for path in CONFIGS.glob('*_32x32.py')}
    assert files == {f'{net[3]}_32x32.py' for net in community.NETS.values()}


@pytest.mark.parametrize('net', community.NETS)
def test_parameters(net):
    _, _, count, file = community.NETS[net]
    assert sum(p.numel() for p in build(file).parameters()) == count


@pytest.mark.parametrize('file', ['resnet20', 'wrn_16_2', 'mobilenetv2'])
def test_learns(file):
    torch.manual_seed(0)
    net = build(file)
    net.init_weights()
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    images = torch.randn(4, 3, 32, 32)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    losses = []
    for _ in range(4):
        loss = net(images, samples, mode='loss')['loss']
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in net.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert 3 < losses[0] < 7  # ln 100 = 4.6
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.1
