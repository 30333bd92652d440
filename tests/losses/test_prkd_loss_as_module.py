import copy
import re

import pytest
import torch
import toy
from mmrazor.registry import MODELS

from prkd_mm.losses import PRKDLoss

NO_SCHEDULE = 'no LossScheduleHook changes this loss'


def logits():
    return torch.randn(6, 5, requires_grad=True), torch.randn(6, 5)


class TestErrors:
    NAMES = (
        'tau',
        'tau_cor',
        'kl_weight',
        'cor_weight',
        'inter_weight',
        'intra_weight',
        'loss_weight',
    )

    @pytest.mark.parametrize('name', NAMES)
    @pytest.mark.parametrize('value', ['4', True, [1.0], torch.tensor(1.0)], ids=repr)
    def test_values_that_are_not_numbers_are_errors(self, name, value):
        with pytest.raises(
            TypeError, match=f'{name} must be a number, got {re.escape(repr(value))}'
        ):
            PRKDLoss(**{name: value})

    @pytest.mark.parametrize('name', NAMES)
    @pytest.mark.parametrize('value', [-1, -0.5, float('nan'), float('inf')])
    def test_values_out_of_range_are_errors(self, name, value):
        message = f'{name} must be finite and .* got {value!r}; correct it in'
        with pytest.raises(ValueError, match=message):
            PRKDLoss(**{name: value})

    @pytest.mark.parametrize('name', ['tau', 'tau_cor'])
    def test_a_temperature_of_0_is_an_error(self, name):
        with pytest.raises(ValueError, match=f'{name} must .* above 0, got 0'):
            PRKDLoss(**{name: 0})

    @pytest.mark.parametrize(
        'name, value', [('tau', 0.0), ('tau', -1.0), ('kl_weight', -0.1), ('cor_weight', -2)]
    )
    def test_later_values_are_checked_too(self, name, value):
        loss = PRKDLoss()
        before = getattr(loss, name)
        with pytest.raises(ValueError, match=f'{name} must .* got {value!r}'):
            setattr(loss, name, value)
        assert getattr(loss, name) == before

    @pytest.mark.parametrize(
        'one, two',
        [((8, 10), (8, 100)), ((8, 10), (4, 10)), ((8,), (8,)), ((8, 10, 2, 2), (8, 10, 2, 2))],
    )
    def test_logits_of_different_shapes_are_an_error(self, one, two):
        with pytest.raises(ValueError) as error:
            PRKDLoss()(torch.zeros(one), torch.zeros(two))
        for words in (str(one), str(two), '(N, C)', 'head.fc'):
            assert words in str(error.value)


class TestAsModule:
    def test_the_loss_is_registered(self):
        loss = MODELS.build(dict(type='mmrazor.PRKDLoss', tau=2))
        assert isinstance(loss, PRKDLoss) and loss.tau == 2

    def test_the_loss_has_no_state(self):
        loss = PRKDLoss()
        assert not loss.state_dict() and not list(loss.parameters())

    def test_copies_are_independent(self):
        loss = PRKDLoss(tau=3.0)
        loss(*logits()).backward()
        other = copy.deepcopy(loss)
        other.tau = 2.0
        assert (loss.tau, other.tau) == (3.0, 2.0)

    def test_repr_shows_the_current_values(self):
        loss = PRKDLoss()
        loss.tau = 2.5
        assert 'tau=2.5, tau_cor=4, kl_weight=1, cor_weight=0' in repr(loss)


class TestWithoutASchedule:
    """A run without a schedule would be plain KD under another name."""

    def run(self, tmp_path, *hooks):
        ckpt = toy.save_teacher(tmp_path / 't.pth')
        toy.train(toy.config(toy.distillation(ckpt), tmp_path, *hooks))
        return toy.log_text(tmp_path)

    def test_a_run_without_a_schedule_warns_once(self, tmp_path):
        text = self.run(tmp_path)
        assert text.count(NO_SCHEDULE) == 1
        assert 'tau=4, kl_weight=1 and cor_weight=0' in text
        assert 'plain KD' in text and 'LossScheduleHook' in text

    def test_the_loss_itself_warns_once(self, monkeypatch):
        said = []
        monkeypatch.setattr('mmengine.logging.print_log', lambda text, **_: said.append(text))
        loss = PRKDLoss()
        for mode in (False, True, True):
            loss.train(mode)
        assert len(said) == 1

    @pytest.mark.parametrize(
        'hook',
        [
            toy.prkd_schedule(),
            dict(
                type='LossScheduleHook',
                schedules=[dict(loss='loss_prkd', attr='tau', start=4, shape='constant')],
            ),
        ],
        ids=['prkd', 'constant'],
    )
    def test_a_run_with_a_schedule_does_not_warn(self, tmp_path, hook):
        assert NO_SCHEDULE not in self.run(tmp_path, hook)


def test_logits_are_accepted_under_the_names_of_dist_loss():
    student, teacher = logits()
    loss = PRKDLoss(cor_weight=1.0)
    assert loss(logits_S=student, logits_T=teacher) == loss(student, teacher)
    with pytest.raises(TypeError, match='as preds_S and preds_T or as logits_S and logits_T'):
        loss(logits_S=student)
