"""What a run says about its strength, from schedules and logits alone, without training."""

from unittest import mock

import pytest
import torch
import toy

from prkd_mm.hooks import LossScheduleHook
from prkd_mm.hooks.relaxation import (
    announce,
    course_of,
    losses_at,
    solve_relax_to,
    summary,
    warnings,
)
from prkd_mm.hooks.strength_log import LogitSample
from prkd_mm.losses import PRKDLoss
from prkd_mm.schedules import Schedule
from prkd_mm.strength import StrengthMeter


def prkd_hook(epochs, relax_to=None):
    """The hook of PRKD, ready to train."""
    schedules = toy.prkd_schedule()['schedules']
    if relax_to is not None:
        schedules[2] = dict(loss='loss_prkd', attr='cor_weight', start=0.0, relax_to=relax_to)
    hook = LossScheduleHook(schedules)
    hook.set_length(epochs)
    hook.losses = dict(loss_prkd=PRKDLoss())
    return hook


def test_a_long_schedule_costs_few_evaluations_before_the_first_batch():
    hook = prkd_hook(240)
    generator = torch.Generator().manual_seed(0)
    meter = StrengthMeter(3 * torch.randn(32, 10, generator=generator))
    exact = [meter.total(losses_at([hook], epoch)['loss_prkd']) for epoch in range(240)]
    with mock.patch.object(meter, 'terms', wraps=meter.terms) as terms:
        course = course_of([hook], 240, 1, meter, ['loss_prkd'])
    assert terms.call_count <= 40
    assert course.iterations == list(range(240))
    assert len(course.values['loss_prkd.tau']) == 240
    found = course.totals['loss_prkd']
    assert (found[0], found[-1]) == (exact[0], exact[-1])
    assert found == pytest.approx(exact, rel=2e-3)
    assert not course_of([hook], 240, 1, meter, []).totals  # a loss on features
    parts = zip(course.terms['loss_prkd: KL'], course.terms['loss_prkd: Cor'])
    assert found == pytest.approx([kl + cor for kl, cor in parts], rel=1e-9)


@pytest.mark.parametrize('scale', [1, 8, 30])
def test_two_classes_get_a_warning_because_cor_has_no_gradient(scale):
    z = scale * torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    hook = prkd_hook(8)
    course = course_of([hook], 8, 1, StrengthMeter(z), ['loss_prkd'])
    found = mock.Mock()
    announce(course, [hook], found, '')
    said = ' '.join(call.args[0] for call in found.warning.call_args_list)
    assert 'Cor has no strength for this teacher (as with two classes' in said
    # its gradient with respect to the student's logits, too
    preds_S = torch.randn(64, 2, requires_grad=True, dtype=torch.double)
    PRKDLoss(kl_weight=0.0, cor_weight=1.0)(preds_S, z.double()).backward()
    assert preds_S.grad.abs().max() < 1e-9


def test_two_classes_have_no_target_that_cor_could_reach():
    meter = StrengthMeter(20 * torch.randn(64, 2, generator=torch.Generator().manual_seed(0)))
    hook = prkd_hook(240, relax_to=0.25)
    with pytest.raises(ValueError, match=r'cannot be reached, .*as with two classes'):
        solve_relax_to(hook.schedules['loss_prkd', 'cor_weight'], [hook], 239, meter)


def test_a_large_solved_weight_gets_a_warning():
    # a sharp teacher at ten classes: Cor constrains the student hardly
    generator = torch.Generator().manual_seed(0)
    z = 15 * torch.eye(10)[torch.randint(10, (64,), generator=generator)]
    hook = prkd_hook(240, relax_to=2.0)
    meter = StrengthMeter(z)
    solve_relax_to(hook.schedules['loss_prkd', 'cor_weight'], [hook], 239, meter)
    found = mock.Mock()
    announce(course_of([hook], 240, 1, meter, ['loss_prkd']), [hook], found, '')
    said = ' '.join(call.args[0] for call in found.warning.call_args_list)
    end = hook.schedules['loss_prkd', 'cor_weight'].end
    assert end > 20 and f'relax_to=2 needs a cor_weight that ends at {end:.3g}' in said
    assert 'raise tau_cor' in said


class TestSentences:
    def test_the_summary_describes_the_change(self):
        assert summary('a', [0.04, 0.083]) == (
            'a: supervision 0.040 → 0.083: it tightens 2.1 times'
        )
        assert summary('a', [1, 1.03]).endswith('it tightens 1.03 times')
        assert summary('a', [0.04, 0.01]).endswith('it relaxes to 0.25 of its initial strength')
        assert summary('a', [0.04, 0.04]).endswith('it ends as strong as it begins')
        assert summary('a', [0, 0.04]).endswith('it tightens from 0')

    PRKD = [
        Schedule('a', 'tau', 4, 1),
        Schedule('a', 'kl_weight', 1, 0),
        Schedule('a', 'cor_weight', 0, 1),
    ]

    def test_a_schedule_that_is_meant_to_relax_and_tightens_gets_a_warning(self):
        (text,) = warnings('a', [0.04, 0.05, 0.083], self.PRKD)
        assert 'meant to relax' in text and 'tightens it 2.1 times' in text
        assert 'relax_to=0.25' in text
        assert not warnings('a', [0.04, 0.02], self.PRKD)
        # without a schedule of cor_weight, there is none to replace
        (text,) = warnings('a', [0.04, 0.083], [Schedule('a', 'tau', 4, 1)])
        assert 'relax_to' not in text and 'scale_by_tau2=True' in text
        (text,) = warnings('a', [0.04, 0.083], [Schedule('a', 'loss_weight', 1, 0.5)])
        assert 'meant to relax' in text
        # a warm-up is not meant to relax
        assert not warnings('a', [0.04, 0.083], [Schedule('a', 'loss_weight', 0, 1)])

    @pytest.mark.parametrize(
        'course, words',
        [
            ([4, 3, 2, 1], []),
            ([4, 1, 1.05], []),
            ([4, 1, 1.2], ['falls and climbs back by a factor of 1.2']),
            ([1, 0.5, 2], ['falls and climbs back by a factor of 2']),
            ([4, 5, 1], ['reaches 5.0, 1.2 times the larger end']),
            ([4, 4.2, 1], ['reaches 4.2, 1.05 times the larger end']),
            ([1, 3, 2], ['reaches 3.0, 1.5 times the larger end']),
            ([4, 1, 5, 2], ['times the larger end', 'climbs back by a factor of 4']),
            ([4, 0, 2], ['climbs back from 0, because']),
        ],
        ids=str,
    )
    def test_a_strength_that_is_not_monotonic_gets_a_warning(self, course, words):
        relax_to = course[-1] / course[0]
        schedules = [*self.PRKD[:2], Schedule('a', 'cor_weight', 0, relax_to=relax_to)]
        found = warnings('a', course, schedules)
        assert len(found) == len(words)
        assert all(word in text for word, text in zip(words, found))


@pytest.mark.parametrize('total, kept', [(40, 40), (10000, 10000), (50000, 10000), (100000, 10000)])
def test_kept_logits_are_spread_over_the_data_set(total, kept):
    """Every interval has one, and so has every class, even if classes alternate."""
    sample = LogitSample(total)
    rows = torch.arange(total, dtype=torch.float32)[:, None].expand(-1, 4)
    for batch in rows.split(96):
        sample.add(batch)
    found = sample.gather()[:, 0].sort().values.long()
    assert (found // (total // kept)).tolist() == list(range(kept))
    if kept < total:
        expected = kept / 10
        assert ((found % 10).bincount(minlength=10) - expected).abs().max() < 4 * expected**0.5


def test_a_process_without_images_gets_the_logits_of_the_others(monkeypatch):
    other = LogitSample(8)
    other.add(torch.arange(8.0)[:, None].expand(-1, 4))
    monkeypatch.setattr(
        'prkd_mm.hooks.strength_log.all_gather_object', lambda rows: [rows, other._rows]
    )
    found = LogitSample(0).gather()
    assert found[:, 0].sort().values.tolist() == list(range(8))
    monkeypatch.setattr('prkd_mm.hooks.strength_log.all_gather_object', lambda rows: [rows, []])
    assert LogitSample(0).gather() is None


@pytest.mark.parametrize('relax_to', [0.25, 2.0])
def test_relax_to_is_reached_on_the_images_that_were_not_in_the_sample(relax_to):
    # a soft teacher, more certain of some images than of others, with images sorted by certainty
    generator = torch.Generator().manual_seed(0)
    scale = torch.linspace(0.5, 4, 100_000)[:, None]
    z = scale * torch.randn(100_000, 20, generator=generator)
    sample = LogitSample(len(z))
    for batch in z.split(1000):
        sample.add(batch)
    hook = prkd_hook(240, relax_to)
    schedule = hook.schedules['loss_prkd', 'cor_weight']
    assert solve_relax_to(schedule, [hook], 239, StrengthMeter(sample.gather()))
    meter = StrengthMeter(z)
    first, last = (meter.total(losses_at([hook], epoch)['loss_prkd']) for epoch in (0, 239))
    assert last / first == pytest.approx(relax_to, rel=0.01)
