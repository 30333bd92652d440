import math

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from project import ROOT
from torch.func import hessian

from prkd_mm.analysis.strength import figure, measure
from prkd_mm.analysis.strength.along_run import RunLosses, StrengthOverRun
from prkd_mm.analysis.strength.measure import (
    distance,
    eigenvalues,
    free_directions,
    gradients,
    hessians,
    noticeable_share,
    over_samples,
    small_class_share,
    summary,
)
from prkd_mm.config import load_config
from prkd_mm.stats.estimates import Estimate
from prkd_mm.strength import KINDS, StrengthMeter, Term, strength, terms_of

QUICKSTART = str(ROOT / 'configs/quickstart/prkd_digits.py')


def logits(samples=6, classes=5, spread=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(samples, classes, generator=generator, dtype=torch.double)


@pytest.mark.parametrize('kind', KINDS)
def test_closed_forms_equal_the_hessians_of_autograd(kind):
    z, term = logits(), Term(kind, tau=2.5, weight=1.7)
    whole = hessian(lambda z_S: len(z) * distance(term, z_S, z))(z)
    blocks = torch.stack([whole[i, :, i] for i in range(len(z))])
    torch.testing.assert_close(hessians(term, z), blocks, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('samples', [3, 6])
@pytest.mark.parametrize('kind', KINDS)
def test_free_directions_are_those_of_the_whole_batch(kind, samples):
    z, term = logits(samples), Term(kind, tau=2.5)
    whole = hessian(lambda z_S: distance(term, z_S, z))(z)
    values = torch.linalg.eigvalsh(whole.reshape(z.numel(), -1))
    free = (values < 1e-10 * values.max()).sum().item()
    assert free / samples == pytest.approx(free_directions(term, 5, samples))


def test_eigenvalues_of_kl_equal_closed_forms_for_equal_and_for_two_classes():
    equal = eigenvalues([Term('kl', 4.0, 16.0)], torch.zeros(1, 5).double())
    assert equal[0].tolist() == pytest.approx([0] + 4 * [1 / 5], abs=1e-12)
    z = torch.tensor([[1.0, -1.0]]).double()
    p = 1 / (1 + math.exp(-2 / 4))
    two = eigenvalues([Term('kl', 4.0, 16.0)], z)
    assert two[0].tolist() == pytest.approx([0, 2 * p * (1 - p)], abs=1e-12)


def test_cor_does_not_constrain_shift_and_scale_of_the_probabilities():
    z = logits()
    p = (z / 4).softmax(1)
    halfway = 4 * (0.5 * p + 0.5 / 5).log() + 7  # scaled, centered on 1/C
    assert distance(Term('inter', 4.0), halfway, z) < 1e-12
    assert distance(Term('kl', 4.0), halfway, z) > 1e-3
    assert distance(Term('kl', 4.0), z + 7, z) < 1e-12


def test_equal_probabilities_have_no_curvature():
    assert not hessians(Term('inter'), torch.zeros(2, 5).double()).any()
    assert not hessians(Term('intra'), torch.ones(4, 5).double()).any()


def test_strength_falls_with_the_temperature():
    z = logits(64, 10)
    values = [strength([Term('logit')], z)] + [
        strength([Term('kl', tau, tau**2)], z) for tau in (8, 4, 2, 1)
    ]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(1 / 10)


def test_the_closed_form_of_the_strength_is_the_mean_eigenvalue():
    z = logits(8)
    terms = [Term('kl', 2.0, 3.0), Term('inter', 4.0, 2.0), Term('intra', 4.0, 5.0)]
    assert strength(terms, z, batch_size=4) == pytest.approx(
        eigenvalues(terms, z, batch_size=4).mean().item(), rel=1e-8
    )


def test_memory_is_bounded_without_changing_the_values(monkeypatch):
    z, terms = logits(8), [Term('intra', 4.0), Term('kl', 2.0)]
    values, held = eigenvalues(terms, z, batch_size=6), []

    def watched(*args):
        held.append(hessians(*args))
        return held[-1]

    monkeypatch.setattr(measure, 'hessians', watched)
    monkeypatch.setattr(measure, '_ELEMENTS', 60)
    torch.testing.assert_close(eigenvalues(terms, z, batch_size=6), values)
    assert max(H.numel() for H in held) == 2 * 25


def test_correlation_of_two_classes_has_no_curvature():
    """Two centered probabilities have one direction only."""
    values = eigenvalues([Term('inter', 4.0, 16.0)], logits(50, 2))
    assert not values.any() and not noticeable_share(values).any()


def test_gradients_equal_closed_forms():
    z_T, z_S = logits(), logits(seed=1)
    torch.testing.assert_close(gradients([Term('logit')], z_S, z_T, batch_size=4), (z_S - z_T) / 5)
    torch.testing.assert_close(
        gradients([Term('kl', 2.0, 4.0)], z_S, z_T, batch_size=4),
        2 * ((z_S / 2).softmax(1) - (z_T / 2).softmax(1)),
    )
    for kind in KINDS:
        assert gradients([Term(kind, 2.0)], z_T, z_T).abs().max() < 1e-12


def test_an_epoch_without_terms_has_no_gradient_and_no_curvature():
    """As at the end of a schedule that lowers the weight of the loss to 0."""
    z_S, z_T = logits(3, 4), logits(3, 4)
    assert torch.equal(gradients([], z_S, z_T), torch.zeros(3, 4).double())
    assert torch.equal(eigenvalues([], z_T), torch.zeros(3, 4).double())


def test_shares_count_small_classes_and_noticeable_directions():
    z_T = torch.tensor([[5.0, 0.0, 0.0, 0.0]])
    gradient = torch.tensor([[-3.0, 1.0, 1.0, 1.0]])
    assert small_class_share(gradient, z_T).tolist() == [0.5]
    assert small_class_share(0 * gradient, z_T).isnan().all()
    values = torch.tensor([[0.0, 0.5, 2.0, 100.0]])
    assert noticeable_share(values).tolist() == [0.5]
    assert over_samples(torch.tensor([1.0, 3.0, math.nan])) == pytest.approx((2.0, 1.0))


def test_the_summary_of_logit_matching_equals_closed_forms():
    z = logits()
    found = summary(Term('logit', weight=3.0), z + 1, z)
    assert found.strength.mean == pytest.approx(3 / 5)
    assert found.without_tau2 == pytest.approx(1 / 5)
    assert found.spectrum == pytest.approx([3 / 5] * 5)
    assert found.gradient_norm.mean == pytest.approx(3 / 5**0.5)
    assert found.free_directions == 0


@pytest.mark.parametrize(
    'loss',
    [
        dict(
            type='PRKDLoss',
            tau=2.0,
            tau_cor=3.0,
            kl_weight=0.4,
            cor_weight=0.6,
            inter_weight=0.7,
            intra_weight=0.3,
            loss_weight=0.9,
        ),
        dict(type='PRKDLoss', tau=2.0, cor_weight=0.6, scale_by_tau2=False),
        dict(type='KLDivergence', tau=3.0, loss_weight=0.9),
        dict(type='DISTLoss', tau=2.0, inter_loss_weight=0.7, loss_weight=2.0),
        dict(type='L2Loss', normalize=False, div_element=True, loss_weight=0.45),
    ],
    ids=lambda loss: loss['type'],
)
def test_terms_add_up_to_the_loss(loss):
    module = MODELS.build(dict(loss, _scope_='mmrazor'))
    z_S, z_T = logits(seed=1), logits()
    assert sum(distance(term, z_S, z_T) for term in terms_of(module)).item() == pytest.approx(
        module(z_S, z_T).item(), rel=1e-6
    )


def run_terms(cfg, epochs):
    losses = RunLosses(cfg, StrengthMeter(logits(64, 10)))
    return [losses.terms(epoch) for epoch in epochs]


def test_the_terms_of_prkd_follow_its_schedules():
    start, middle, last = run_terms(load_config(QUICKSTART), [0, 40, 79])
    assert start == [Term('kl', 4.0, pytest.approx(0.9 * 16))]
    assert middle == [
        Term('kl', 2.5, pytest.approx(0.9 * 0.5 * 2.5**2)),
        Term('inter', 4.0, pytest.approx(0.9 * 0.5 * 16)),
    ]
    tau, r = 4 - 3 * 79 / 80, 79 / 80
    assert last == [
        Term('kl', pytest.approx(tau), pytest.approx(0.9 * (1 - r) * tau**2)),
        Term('inter', 4.0, pytest.approx(0.9 * r * 16)),
    ]


def test_constant_and_iteration_based_schedules_are_followed():
    assert (
        len({tuple(terms) for terms in run_terms(load_config(QUICKSTART, 'kd'), [0, 40, 79])}) == 1
    )
    cfg = load_config(QUICKSTART, 'prkd_a')
    by_epoch = run_terms(cfg, [0, 40])
    cfg.custom_hooks[-1].by_epoch = False
    assert run_terms(cfg, [0, 40]) == by_epoch  # 40 of 80, 320 of 640


def test_relax_to_is_solved_for_the_teachers_logits():
    cfg = load_config(QUICKSTART)
    for schedule in cfg.custom_hooks[-1].schedules:
        if schedule['attr'] == 'cor_weight':
            del schedule['end']
            schedule['relax_to'] = 0.25
    z = logits(64, 10)
    losses = RunLosses(cfg, StrengthMeter(z))
    first, last = (strength(losses.terms(epoch), z) for epoch in (0, 79))
    assert last == pytest.approx(0.25 * first)


def test_losses_on_features_are_left_out():
    cfg = load_config(QUICKSTART)
    distiller = cfg.model.distiller
    expected = run_terms(load_config(QUICKSTART), [0, 40])
    for recorders in (distiller.student_recorders, distiller.teacher_recorders):
        recorders.feature = dict(type='ModuleOutputs', source='backbone.conv1')
    distiller.distill_losses.loss_feature = dict(type='L2Loss', loss_weight=5.0)
    distiller.loss_forward_mappings.loss_feature = {
        's_feature': dict(from_student=True, recorder='feature'),
        't_feature': dict(from_student=False, recorder='feature'),
    }
    assert run_terms(cfg, [0, 40]) == expected
    del distiller.distill_losses[next(iter(distiller.distill_losses))]
    cfg.custom_hooks = []
    with pytest.raises(ValueError, match='loss_feature: all distill_losses compare features'):
        run_terms(cfg, [0])


def test_a_config_without_distillation_raises():
    with pytest.raises(ValueError, match='no distill_losses'):
        run_terms(Config(dict(model=dict(type='A'))), [0])


def test_the_figure_says_that_its_images_are_not_augmented():
    run = StrengthOverRun([0, 1], [0.2, 0.1], {'KL': [0.2, 0.1]}, {})
    scheme = summary(Term('kl'), logits(seed=1), logits())
    drawn = figure.strength({'KL': scheme}, {'KD': run}, 'title')
    assert 'without augmentation' in drawn.axes[4].get_title()


def test_gradients_of_zero_are_noted_in_the_figure():
    along = {
        name: StrengthOverRun([0, 1], [0.2, 0.1], {'KL': [0.2, 0.1]}, gradients)
        for name, gradients in dict(
            KD={1: Estimate(0.3, 0.1), 2: Estimate(0.2, 0.1)},
            DIST={1: Estimate(0.3, 0.1), 2: Estimate(0.0, 0.0)},
        ).items()
    }
    scheme = summary(Term('kl'), logits(seed=1), logits())
    legend = figure.strength({'KL': scheme}, along, 'title').axes[5].get_legend()
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown == ['KD', 'DIST (1 of 2 are 0, not shown)']
