import torch
from mmpretrain.registry import MODELS
from torch import nn


def test_stages_have_the_published_shapes():
    net = MODELS.build(dict(type='MobileNetV2_TinyImageNet', out_indices=range(8)))
    images = torch.zeros(1, 3, 64, 64)
    assert net.conv1(images).shape == (1, 32, 66, 66)
    assert [tuple(f.shape[1:]) for f in net(images)] == [
        (16, 66, 66),
        (24, 33, 33),
        (32, 17, 17),
        (64, 9, 9),
        (96, 9, 9),
        (160, 9, 9),
        (320, 9, 9),
        (1280, 9, 9),
    ]
    assert {type(m) for m in net.modules()} >= {nn.ReLU6}
    assert not any(type(m) is nn.ReLU for m in net.modules())
    # every block has an expansion, the first by a factor of 1
    assert [len(net.layer1[0].conv), len(net.layer2[0].conv)] == [3, 3]
