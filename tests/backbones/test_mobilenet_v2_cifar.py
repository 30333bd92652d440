import torch
from mmpretrain.registry import MODELS
from torch import nn


def build(**kwargs):
    return MODELS.build(dict(type='MobileNetV2_CIFAR', **kwargs))


def test_stages_have_the_published_shapes():
    features = build(out_indices=range(8))(torch.zeros(1, 3, 32, 32))
    assert [tuple(f.shape[1:]) for f in features] == [
        (8, 16, 16),
        (12, 16, 16),
        (16, 8, 8),
        (32, 4, 4),
        (48, 4, 4),
        (80, 2, 2),
        (160, 2, 2),
        (1280, 2, 2),
    ]


def test_the_activation_is_relu():
    kinds = {type(m) for m in build().modules()}
    assert nn.ReLU in kinds and nn.ReLU6 not in kinds


def test_the_net_of_mmpretrain_is_not_changed():
    build()
    own = MODELS.build(dict(type='MobileNetV2'))
    own.eval()  # returns None
    assert [len(layer[0].conv) for layer in (own.layer1, own.layer2)] == [2, 3]
    assert own(torch.zeros(1, 3, 32, 32))[0].shape == (1, 1280, 1, 1)
