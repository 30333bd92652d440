"""MMRazor's own losses work in this package: each can be built and trained with."""

import inspect

import prkd_mm.losses  # noqa: F401  isort: skip
import pytest
import torch
from mmrazor.registry import MODELS

TWO_LOGITS = [
    'AngleWiseRKD',
    'CrossEntropyLoss',
    'DISTLoss',
    'DistanceWiseRKD',
    'KDSoftCELoss',
    'KLDivergence',
    'L1Loss',
    'L2Loss',
    'PRKDLoss',
]
LOGITS_AND_LABELS = dict(DKDLoss=dict(), WSLD=dict(num_classes=5))
# losses of a data-free generator, which only the teacher sees
ONE_LOGITS = ['ActivationLoss', 'InformationEntropyLoss', 'OnehotLikeLoss']
TWO_FEATURE_MAPS = [
    'ABLoss',
    'ATLoss',
    'ChannelWiseDivergence',
    'FTLoss',
    'MGDLoss',
    'OFDLoss',
    'PKDLoss',
]
# tuples of a connector's outputs; a memory bank over the data set
OTHERS = dict(FBKDLoss=2, CRDLoss=3)


def learn(name, shape, num_preds=2, labels=(), **args):
    torch.manual_seed(0)
    loss = MODELS.build(dict(type=f'mmrazor.{name}', **args))
    student = torch.randn(shape, requires_grad=True)
    others = [torch.randn(shape) for _ in range(num_preds - 1)]
    optimizer = torch.optim.Adam([student], lr=0.02)
    values = []
    for _ in range(20):
        value = loss(student, *others, *labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert torch.isfinite(torch.tensor(values)).all()
    assert values[-1] < values[0]


@pytest.mark.parametrize('name', TWO_LOGITS)
def test_losses_of_two_logits_decrease(name):
    learn(name, (8, 5))


@pytest.mark.parametrize('name', ONE_LOGITS)
def test_losses_of_the_logits_of_a_generator_decrease(name):
    learn(name, (8, 5), num_preds=1)


@pytest.mark.parametrize('name', LOGITS_AND_LABELS)
def test_losses_of_logits_and_labels_decrease(name):
    learn(name, (8, 5), labels=[torch.arange(8) % 5], **LOGITS_AND_LABELS[name])


@pytest.mark.parametrize('name', TWO_FEATURE_MAPS)
def test_losses_of_two_feature_maps_decrease(name):
    learn(name, (4, 3, 6, 6))


def test_every_registered_loss_is_covered():
    """Every registered loss is covered above, by the arguments of its ``forward``."""
    registered = {}
    for name, loss in MODELS.module_dict.items():
        if '.losses.' in loss.__module__:
            arguments = inspect.signature(loss.forward).parameters.values()
            registered[name] = sum(x.default is x.empty for x in arguments) - 1  # of self
    # its logits may have either of two names, so none of these is required
    assert registered.pop('PRKDLoss') == 0
    assert registered == {
        **dict.fromkeys(ONE_LOGITS, 1),
        **dict.fromkeys(set(TWO_LOGITS + TWO_FEATURE_MAPS) - {'PRKDLoss'}, 2),
        **dict.fromkeys(LOGITS_AND_LABELS, 3),
        **OTHERS,
    }
