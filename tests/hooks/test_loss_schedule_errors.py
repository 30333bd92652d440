import re

import pytest
import toy
from mmrazor.registry import MODELS
from torch import nn

from prkd_mm.hooks import LossScheduleHook


class NumberLoss(nn.Module):
    """A loss with attributes of several types, which it does not check."""

    def __init__(self):
        super().__init__()
        self.alpha, self.rate, self.name, self.flag = 1, 0.5, 'x', True
        self.factor = nn.Parameter(nn.Parameter().new_ones(()))

    def forward(self, preds_S, preds_T):
        return self.alpha * self.factor * (preds_S - preds_T).square().mean()


MODELS.register_module(module=NumberLoss, force=True)


class TestErrors:
    def schedule(self, **changed):
        return LossScheduleHook(
            [dict(dict(loss='loss_prkd', attr='tau', start=4, end=1), **changed)]
        )

    def test_an_empty_list_of_schedules_is_an_error(self):
        with pytest.raises(ValueError, match='schedules is empty; give'):
            LossScheduleHook([])

    def test_an_unknown_shape_is_an_error(self):
        with pytest.raises(
            ValueError,
            match=r"tau has shape 'exp'; choose "
            r"one of \['constant', 'cosine', 'linear', 'step'",
        ):
            self.schedule(shape='exp')

    @pytest.mark.parametrize(
        'changed', [dict(end=None), dict(start='4'), dict(start=True), dict(end=[1])], ids=str
    )
    def test_values_that_are_not_numbers_are_errors(self, changed):
        with pytest.raises(TypeError, match='loss_prkd.tau needs numbers'):
            self.schedule(**changed)

    def test_an_unknown_key_is_an_error(self):
        with pytest.raises(ValueError, match='begin'):
            self.schedule(begin=4)

    def test_two_schedules_for_one_attribute_are_an_error(self):
        schedule = dict(loss='loss_prkd', attr='tau', start=4, end=1)
        with pytest.raises(ValueError, match='two schedules for loss_prkd'):
            LossScheduleHook([schedule, schedule])

    @pytest.fixture
    def refused(self, ckpt, tmp_path):
        """Function that expects an error before the first iteration of a run."""

        def refused(match, schedule=None, model=None, **window):
            tau = dict(loss='loss_prkd', attr='tau', start=4, end=1)
            hook = dict(type='LossScheduleHook', schedules=[dict(tau, **schedule or {})], **window)
            runner = toy.start(toy.config(model or toy.distillation(ckpt), tmp_path, hook))
            with toy.quickly(), pytest.raises(ValueError, match=match):
                runner.train()
            assert runner.iter == 0 and not toy.logged(tmp_path)

        return refused

    def test_an_unknown_loss_is_an_error(self, refused):
        refused(r"no loss 'loss_kd'; it has \['loss_prkd'\]", dict(loss='loss_kd'))

    def test_a_model_without_a_distiller_is_an_error(self, refused):
        refused("no loss 'loss_prkd'; it has none", model=toy.classifier())

    def test_two_hooks_for_one_attribute_are_an_error(self, ckpt, tmp_path):
        hooks = [toy.prkd_schedule(), toy.prkd_schedule()]
        runner = toy.start(toy.config(toy.distillation(ckpt), tmp_path, *hooks))
        with toy.quickly(), pytest.raises(ValueError, match='two hooks set loss_prkd.*keep one'):
            runner.train()
        assert runner.iter == 0

    def test_an_unknown_attribute_is_an_error(self, refused):
        numbers = [f'{name}_weight' for name in ('cor', 'inter', 'intra', 'kl', 'loss')]
        listed = re.escape(str([*numbers, 'tau', 'tau_cor']))
        message = rf"loss_prkd \(PRKDLoss\) has no numeric attribute 'T'; it has {listed}"
        refused(message, dict(attr='T'))

    @pytest.mark.parametrize('attr', ['name', 'flag', 'factor', 'forward'])
    def test_an_attribute_that_is_not_a_number_is_an_error(self, ckpt, refused, attr):
        distiller = toy.logits_distiller(loss_prkd=dict(type='mmrazor.NumberLoss'))
        refused(
            rf"no numeric attribute '{attr}'; it has \['alpha', 'rate'\]",
            dict(attr=attr),
            toy.distillation(ckpt, distiller=distiller),
        )

    @pytest.mark.parametrize(
        'schedule', [dict(end=0), dict(start=-1), dict(attr='kl_weight', end=-0.5)], ids=str
    )
    def test_a_value_that_the_loss_rejects_is_an_error(self, refused, schedule):
        bad = float(schedule.get('start', schedule.get('end')))
        attr = schedule.get('attr', 'tau')
        refused(
            f'loss_prkd.{attr} reaches {bad}: PRKDLoss: {attr} must be .* got {bad}; correct',
            schedule,
        )

    @pytest.mark.parametrize(
        'window',
        [
            dict(begin=-1),
            dict(end=3),
            dict(begin=1, end=1),
            dict(begin=2),
            dict(by_epoch=False, end=9),
        ],
        ids=str,
    )
    def test_a_window_outside_the_run_is_an_error(self, refused, window):
        length = '2 epochs' if window.get('by_epoch', True) else '8 iterations'
        refused(f'begin=.*end=.* length of the run, which is {length}', **window)
