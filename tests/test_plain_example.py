"""The method in plain PyTorch, as an independent reference for the package."""

import copy
import importlib.util
import subprocess
import sys

import pytest
import torch
from project import ROOT

from prkd_mm.averaging import mean_of
from prkd_mm.batch_norm import recalibrate_bn
from prkd_mm.config import load_config
from prkd_mm.losses import PRKDLoss
from prkd_mm.schedules import SHAPES

spec = importlib.util.spec_from_file_location('prkd_plain', ROOT / 'examples/prkd_plain.py')
plain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plain)


def some(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize('epoch', [0, 1, 7, 39])
def test_loss_and_gradient_over_a_run_are_those_of_the_config(epoch):
    """The loss and the schedules of configs/_base_/methods/prkd.py, set as the hook does."""
    cfg = load_config(str(ROOT / 'configs/prkd/resnet34_resnet18_tinyimagenet.py'))
    settings = dict(next(iter(cfg.model.distiller.distill_losses.values())))
    settings.pop('type')
    settings.pop('loss_weight', None)
    loss = PRKDLoss(**settings)
    (hook,) = (x for x in cfg.custom_hooks if x['type'] == 'LossScheduleHook')
    schedules = [dict(x) for x in hook.schedules]
    for schedule in schedules:
        shape = SHAPES[schedule.get('shape', 'linear')]
        value = shape(epoch / 40, schedule['start'], schedule['end'])
        setattr(loss, schedule['attr'], value)
    student, teacher = some(0, 8, 10).double().requires_grad_(), some(1, 8, 10).double()
    (tau,) = (x for x in schedules if x['attr'] == 'tau')
    expected = plain.prkd(student, teacher, epoch / 40, tau['start'], tau['end'])
    torch.testing.assert_close(loss(student, teacher), expected)
    (gradient,) = torch.autograd.grad(loss(student, teacher), student)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, student)[0])


def test_the_average_is_that_of_the_package():
    students = [plain.small_net(2) for _ in range(3)]
    expected = mean_of([student.state_dict() for student in students])
    for name, value in plain.average(students).state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_the_statistics_of_batch_norm_are_those_of_the_package():
    net, batches = plain.small_net(2), some(2, 64, 1, 8, 8).split(16)
    expected = copy.deepcopy(net).eval()
    recalibrate_bn(expected, batches)
    plain.recalibrate(net, batches)
    for name, value in net.state_dict().items():
        if not name.endswith('num_batches_tracked'):
            torch.testing.assert_close(value, expected.state_dict()[name])


def test_a_student_follows_its_teacher():
    """This detects a loss with the wrong sign, and a teacher that is not used."""
    images = some(3, 256, 1, 8, 8)
    torch.manual_seed(0)
    teacher = plain.small_net(4).eval()
    labels = teacher(images).argmax(1)
    student = plain.train(plain.small_net(4), images, labels, epochs=6, teacher=teacher, tail=2)
    distance = plain.kl(student(images), teacher(images), 1.0)
    alone = plain.train(plain.small_net(4), images, labels, epochs=6, tail=2)
    assert distance < plain.kl(alone(images), teacher(images), 1.0)


def test_the_loss_and_its_schedules_work_without_openmmlab():
    """Modules that are None cannot be imported, as if they were not installed."""
    code = """
import sys
for name in ('mmcv', 'mmengine', 'mmpretrain', 'mmrazor'):
    sys.modules[name] = None
import torch
from prkd_mm.losses import PRKDLoss
from prkd_mm.schedules import linear
torch.manual_seed(0)
student, teacher = torch.randn(8, 10, dtype=torch.double), torch.randn(8, 10, dtype=torch.double)
loss = PRKDLoss(tau=4.0).train()
loss.tau = linear(0.25, start=4.0, end=1.0)
loss.kl_weight, loss.cor_weight = linear(0.25, start=1.0, end=0.0), 0.25
print(loss(student, teacher).item())
"""
    child = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    torch.manual_seed(0)
    student, teacher = (torch.randn(8, 10, dtype=torch.double) for _ in range(2))
    assert not child.stderr
    assert float(child.stdout) == pytest.approx(plain.prkd(student, teacher, 0.25).item())
