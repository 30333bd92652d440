"""The nets of `configs/_base_/models`, compared with counts of other codebases."""

import community
import pytest
import torch
import torchvision
from mmengine import Config
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from project import ROOT

CONFIGS = ROOT / 'configs/_base_/models'
SMALL = {file: count for _, _, count, file in community.NETS.values()}
SMALL.update(
    resnet18=11220132,  # from pytorch-cifar100, which DOT's tables are based on
    resnet34=21328292,
    # by hand: one block per stage, 464 + 4672 + 14528 + 57728, and the classifier
    resnet8=83892,
    # by hand: its blocks as published, without biases in front of batch norms
    mobilenetv2_tinyimagenet=2352292,
)
PHOTOS = dict(
    resnet18='resnet18',
    resnet34='resnet34',
    resnet50='resnet50',
    mobilenetv2='mobilenet_v2',
    wrn_50_2='wide_resnet50_2',
)


def build(file, folder='small_images'):
    cfg = Config.fromfile(CONFIGS / folder / f'{file}.py')
    ((name, model),) = cfg.items()
    assert name == file
    return MODELS.build(model)


@pytest.mark.parametrize(
    'folder, nets', [('small_images', SMALL), ('imagenet', [*PHOTOS, 'deit_small'])]
)
def test_each_net_has_a_config(folder, nets):
    files = {path.stem for path in (CONFIGS / folder).glob('*.py')}
    assert files == set(nets)


@pytest.mark.parametrize('net', SMALL)
def test_each_net_has_the_published_number_of_parameters(net):
    assert sum(p.numel() for p in build(net).parameters()) == SMALL[net]


@pytest.mark.parametrize('net', PHOTOS)
def test_nets_for_photos_have_the_parameters_of_torchvision(net):
    published = torchvision.models.get_model_weights(PHOTOS[net]).DEFAULT.meta
    count = sum(p.numel() for p in build(net, 'imagenet').parameters())
    assert count == published['num_params']


def test_deit_has_the_parameters_that_mmpretrain_states():
    assert sum(p.numel() for p in build('deit_small', 'imagenet').parameters()) == 22_050_664


@pytest.mark.parametrize('file', ['resnet20', 'wrn_16_2', 'mobilenetv2'])
def test_the_net_learns(file):
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
