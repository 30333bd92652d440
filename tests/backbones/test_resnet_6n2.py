import community
import pytest
import torch
from mmpretrain.registry import MODELS

from prkd_mm.backbones import ResNet6n2

IMAGE = torch.zeros(1, 3, 32, 32)


def build(**kwargs):
    return MODELS.build(dict(type='ResNet6n2', **kwargs))


@pytest.mark.parametrize('depth', [8, 14, 20, 32, 44, 56, 110])
def test_each_depth_of_the_literature_has_its_layers(depth):
    weights, _, _ = community.make(community.resnet, depth=depth)
    backbone = build(depth=depth)
    shapes = {key: value.shape for key, value in weights.items() if not key.startswith('fc.')}
    assert shapes == {key: value.shape for key, value in backbone.state_dict().items()}
    convolutions = sum(len(shape) == 4 and shape[-1] == 3 for shape in shapes.values())
    assert convolutions + 1 == depth  # plus one for the linear layer


def test_stages_have_the_published_shapes():
    backbone = build(depth=8, stem_channels=32, base_channels=64, out_indices=(0, 1, 2))
    assert [tuple(f.shape[1:]) for f in backbone(IMAGE)] == [
        (64, 32, 32),
        (128, 16, 16),
        (256, 8, 8),
    ]
    assert [f.shape[1] for f in build(depth=8)(IMAGE)] == [64]


@pytest.mark.parametrize('depth', [2, 18, 21, '20'])
def test_other_depths_are_errors(depth):
    with pytest.raises(ValueError, match=f'{depth!r}; choose one of 6n'):
        ResNet6n2(depth)


@pytest.mark.parametrize('zero', [False, True])
def test_blocks_start_as_the_identity_only_with_zero_init_residual(zero):
    backbone = build(depth=8, zero_init_residual=zero)
    backbone.init_weights()
    assert backbone.layer2[0].bn2.weight.eq(0 if zero else 1).all()
