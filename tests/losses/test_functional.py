"""The terms against scipy in float64, and their invariances."""

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from scipy.stats import pearsonr
from torch.autograd import gradcheck

from prkd_mm.losses import correlation_distance, kl_divergence, pearson_distance

SHAPES = [(1, 2), (2, 2), (1, 7), (64, 10), (5, 200)]
TAUS = [0.5, 1.0, 2.7, 4.0, 20.0]


def logits(n, c, seed=0, size=3.0, dtype=torch.float64):
    """Correlated logits of two nets."""
    rng = np.random.RandomState(seed)
    student = rng.randn(n, c)
    teacher = 0.5 * student + rng.randn(n, c)
    return (torch.tensor(size * student, dtype=dtype), torch.tensor(size * teacher, dtype=dtype))


def scipy_kl(student, teacher, tau):
    p_S, p_T = (softmax(x.numpy() / tau, 1) for x in (student, teacher))
    return rel_entr(p_T, p_S).sum(1).mean()


def scipy_distance(x, y, axis):
    if axis == 0:
        x, y = x.T, y.T
    return np.mean([1 - pearsonr(a, b)[0] for a, b in zip(x, y)])


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('tau', TAUS)
def test_kl_equals_that_of_scipy(shape, tau):
    student, teacher = logits(*shape)
    assert kl_divergence(student, teacher, tau).item() == pytest.approx(
        scipy_kl(student, teacher, tau), rel=1e-12
    )


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('tau', TAUS)
@pytest.mark.parametrize('inter, intra', [(1.0, 0.0), (0.0, 1.0), (0.7, 2.0)])
def test_correlation_equals_that_of_scipy(shape, tau, inter, intra):
    student, teacher = logits(*shape)
    p_S, p_T = (softmax(x.numpy() / tau, 1) for x in (student, teacher))
    expected = inter * scipy_distance(p_S, p_T, axis=1)
    if shape[0] > 1:  # else nothing varies over the batch
        expected += intra * scipy_distance(p_S, p_T, axis=0)
    value = correlation_distance(student, teacher, tau, inter, intra).item()
    assert value == pytest.approx(expected, rel=1e-10, abs=1e-14)


def test_correlation_with_weights_of_0_is_0():
    assert correlation_distance(*logits(4, 3), 1.0, 0.0, 0.0).item() == 0


@pytest.mark.parametrize('tau', [0.5, 1.0, 4.0])
def test_gradients_equal_finite_differences(tau):
    pair = [x.requires_grad_() for x in logits(5, 4, size=1.0)]
    assert gradcheck(lambda s, t: kl_divergence(s, t, tau), pair)
    assert gradcheck(lambda s, t: correlation_distance(s, t, tau, 1.0, 0.0), pair)
    assert gradcheck(lambda s, t: correlation_distance(s, t, tau, 0.3, 0.9), pair)


def test_kl_is_invariant_to_a_shift_of_a_samples_logits():
    student, teacher = logits(6, 5)
    shift_S, shift_T = logits(6, 1, seed=1, size=50.0)
    value = kl_divergence(student, teacher, 4.0)
    assert kl_divergence(student + shift_S, teacher + shift_T, 4.0).item() == pytest.approx(
        value.item(), rel=1e-11
    )
    # and not to a scale
    assert kl_divergence(2 * student, teacher, 4.0) != value


@pytest.mark.parametrize('dim', [0, 1])
@pytest.mark.parametrize('scale', [1e-12, 0.1, 7.0, 1e12])
def test_pearson_is_invariant_to_shift_and_scale(dim, scale):
    x, y = (torch.softmax(z, 1) for z in logits(6, 5))
    value = pearson_distance(x, y, dim).item()
    for other in (scale * x, x + 0.3, scale * (x + 0.1)):
        assert pearson_distance(other, y, dim).item() == pytest.approx(value, rel=1e-9)
        assert pearson_distance(y, other, dim).item() == pytest.approx(value, rel=1e-9)
    assert pearson_distance(-x, y, dim).item() == pytest.approx(2 - value, rel=1e-9)


def test_pearson_is_accurate_near_a_match():
    x = torch.softmax(logits(8, 10, dtype=torch.float32)[0], 1)
    y = x + 1e-4 * torch.linspace(-1, 1, 10) * x
    exact = pearson_distance(x.double(), y.double(), 1).item()
    assert exact < 1e-8  # 1 - r would be rounding noise in float32
    assert pearson_distance(x, y, 1).item() == pytest.approx(exact, rel=1e-2)


@pytest.mark.parametrize('dim', [0, 1])
def test_constant_vectors_have_a_distance_of_one_half(dim):
    varied = torch.softmax(logits(6, 5)[0], 1)
    flat = torch.full((6, 5), 0.2, dtype=torch.float64, requires_grad=True)
    distance = pearson_distance(flat, varied, dim)
    assert distance.item() == pytest.approx(0.5, rel=1e-12)
    assert pearson_distance(flat, flat.detach() + 1, dim).item() == 0
    distance.backward()
    assert flat.grad.eq(0).all()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_rounding_noise_has_no_gradient(dtype):
    """Uniform logits after a large shift differ in their last bits only."""
    noise = torch.tensor([[0.0, 1.0, 2.0, 1.0]], dtype=dtype)
    eps = torch.finfo(dtype).eps
    x = (0.25 + eps * noise).requires_grad_()
    pearson_distance(x, torch.softmax(noise, 1), 1).backward()
    assert x.grad.eq(0).all()
