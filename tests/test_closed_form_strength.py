import math
import time

import mpmath
import pytest
import torch
from mmrazor.registry import MODELS
from torch.func import hessian

from prkd_mm.losses import PRKDLoss
from prkd_mm.strength import (
    KINDS,
    StrengthMeter,
    Term,
    has_strength,
    largest_rebound,
    strength,
    terms_of,
)

LOSSES = [
    dict(type='PRKDLoss', tau=2.0, tau_cor=3.0, kl_weight=0.4, cor_weight=0.6, intra_weight=0.3),
    dict(type='PRKDLoss', tau=2.0, cor_weight=0.6, scale_by_tau2=False, loss_weight=0.9),
    dict(type='PRKDLoss', tau=2.0, cor_weight=0.6, scale_cor_by_tau2=False),
    dict(type='KLDivergence', tau=3.0, loss_weight=0.9),
    dict(type='DISTLoss', tau=2.0, inter_loss_weight=0.7, intra_loss_weight=0.4),
    dict(type='L2Loss', normalize=False, div_element=True, loss_weight=0.45),
]


def logits(samples=6, classes=5, spread=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(samples, classes, generator=generator, dtype=torch.double)


def by_autograd(loss, z):
    """trace(H)/C at the match, from the Hessian of the whole batch."""
    whole = hessian(lambda z_S: len(z) * loss(z_S, z))(z)
    return sum(whole[i, :, i].trace().item() for i in range(len(z))) / z.numel()


@pytest.mark.parametrize('spread', [0.5, 3.0, 12.0])
@pytest.mark.parametrize('config', LOSSES, ids=str)
def test_the_closed_form_is_the_trace_that_autograd_finds(config, spread):
    loss, z = MODELS.build(dict(config, _scope_='mmrazor')), logits(spread=spread)
    assert strength(terms_of(loss), z, len(z)) == pytest.approx(by_autograd(loss, z), rel=1e-8)


@pytest.mark.parametrize('kind', KINDS)
def test_batches_are_averaged(kind):
    z, term = logits(9), [Term(kind, 2.0)]
    parts = [strength(term, part, 4) * len(part) for part in z.split(4)]
    assert strength(term, z, 4) == pytest.approx(sum(parts) / 9, rel=1e-12)


def test_strengths_equal_known_values():
    z = torch.zeros(3, 5).double()
    assert strength([Term('logit')], z) == pytest.approx(1 / 5)
    assert strength([Term('kl', 4.0, 16.0)], z) == pytest.approx((1 - 1 / 5) / 5)
    p = 1 / (1 + math.exp(-2 / 4))
    z = torch.tensor([[1.0, -1.0]]).double()
    assert strength([Term('kl', 4.0, 16.0)], z) == pytest.approx(p * (1 - p), rel=1e-12)


def test_correlation_of_constant_logits_or_two_classes_has_no_strength():
    assert strength([Term('inter')], torch.zeros(2, 5).double()) == 0
    assert strength([Term('intra')], torch.ones(4, 5).double()) == 0
    for spread in (0.1, 3.0, 20.0, 100.0):
        assert strength([Term('inter', 4.0)], logits(500, 2, spread)) == 0  # two classes


@pytest.mark.parametrize('intra', [0.0, 1.0])
@pytest.mark.parametrize('spread', [0.05, 3.0])
def test_the_epsilon_of_dist_counts_even_with_two_classes(spread, intra):
    config = dict(type='mmrazor.DISTLoss', tau=4.0, intra_loss_weight=intra)
    loss, z = MODELS.build(config), logits(classes=2, spread=spread)
    assert strength(terms_of(loss), z, len(z)) == pytest.approx(by_autograd(loss, z), rel=1e-7)


@pytest.mark.parametrize('gap', [10, 60, 120])
def test_a_sharp_teacher_loses_no_digits(gap):
    z = logits(4, 10, 1.0)
    z[:, 3] += gap
    with mpmath.workdps(80):
        exact = sum(_exact_inter(row, 4) for row in z.tolist()) / z.numel()
        assert strength([Term('inter', 4.0)], z) == pytest.approx(float(exact), rel=1e-12, abs=0)


def _exact_inter(z, tau):
    """trace(H) of 1 − Pearson over the classes, from the powers of the probabilities."""
    odds = [mpmath.exp(mpmath.mpf(value) / tau) for value in z]
    p = [value / sum(odds) for value in odds]
    s_2, s_3, s_4 = (sum(value**k for value in p) for k in (2, 3, 4))
    square = s_2 - mpmath.mpf(1) / len(p)
    along_x = (s_4 - 2 * s_2 * s_3 + s_2**3) / square
    return (s_2 - 2 * s_3 + s_2**2 - along_x) / (tau**2 * square)


def test_sharp_logits_stay_finite():
    z = 1e4 * torch.eye(4).double()
    for kind in KINDS:
        value = strength([Term(kind)], z)
        assert value >= 0 and math.isfinite(value)


def test_many_classes_need_no_hessian_matrix():
    z = logits(64, 21841)  # as many as the teacher check keeps
    values = [strength([Term(kind, 4.0, 16.0)], z) for kind in KINDS]
    start = time.process_time()
    strength([Term('kl', 4.0, 16.0), Term('inter', 4.0, 16.0)], z)
    assert time.process_time() - start < 0.3  # 0.03 s; the Hessians would take 240 GB
    assert all(value > 0 for value in values)


def test_the_strength_follows_the_current_weights():
    loss, z = PRKDLoss(tau=4.0, cor_weight=0.5), logits(20)
    meter = StrengthMeter(z.float(), batch_size=7)
    before = meter.terms(loss)
    assert sorted(before) == ['inter', 'kl']
    loss.kl_weight, loss.cor_weight = 0.25, 0.0
    assert meter.terms(loss) == dict(kl=pytest.approx(before['kl'] / 4, rel=1e-12))
    loss.tau = 2.0
    assert meter.total(loss) == pytest.approx(
        strength([Term('kl', 2.0, 0.25 * 4)], z.float().double(), 7), rel=1e-12
    )


@pytest.mark.parametrize(
    'loss', [torch.nn.MSELoss(), MODELS.build(dict(type='mmrazor.KLDivergence', reduction='mean'))]
)
def test_other_losses_are_rejected(loss):
    assert not has_strength(loss)
    with pytest.raises(ValueError, match='strength of .* is not known'):
        terms_of(loss)


@pytest.mark.parametrize(
    'course, factor',
    [
        ([4, 3, 2, 1], 1),
        ([1, 2, 3], 1),
        ([4, 1, 2], 2),
        ([4, 2, 3, 1], 1.5),
        ([1, 0.5, 2], 2),
        ([1, 0.8, 1], 1.25),
        ([1, 0, 0.5], math.inf),
        ([1], 1),
    ],
    ids=str,
)
def test_the_largest_rebound_is_found(course, factor):
    assert largest_rebound(course) == pytest.approx(factor)
