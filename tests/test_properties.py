"""Properties of losses and schedules, on inputs that hypothesis chooses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prkd_mm.losses import PRKDLoss
from prkd_mm.schedules import SHAPES

numbers = st.floats(-20, 20, width=32)
temperatures = st.floats(0.5, 20)
weights = st.floats(0, 10)


@st.composite
def logits(draw):
    """Two arrays of the same shape: at least two samples and three classes."""
    shape = draw(st.integers(2, 5)), draw(st.integers(3, 6))
    seed = draw(st.integers(0, 2**31))
    scale = draw(st.floats(0.1, 10))
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(shape, generator=generator, dtype=torch.double) for _ in 'ST']


def loss(**arguments):
    return PRKDLoss(**arguments)


@settings(max_examples=50, deadline=None)
@given(logits(), temperatures, weights, weights)
def test_the_loss_is_finite_and_never_negative(pair, tau, kl_weight, cor_weight):
    value = loss(tau=tau, kl_weight=kl_weight, cor_weight=cor_weight)(*pair)
    assert torch.isfinite(value) and value >= -1e-4


@settings(max_examples=50, deadline=None)
@given(logits(), temperatures)
def test_the_loss_of_equal_logits_is_zero(pair, tau):
    value = loss(tau=tau, kl_weight=1.0, cor_weight=1.0, intra_weight=1.0)(pair[0], pair[0])
    assert value.item() == pytest.approx(0, abs=2e-3)


@settings(max_examples=50, deadline=None)
@given(logits(), temperatures, numbers)
def test_a_constant_added_to_all_logits_changes_nothing(pair, tau, shift):
    measure = loss(tau=tau, kl_weight=1.0, cor_weight=1.0)
    student, teacher = pair
    expected = measure(student, teacher).item()
    assert measure(student + shift, teacher).item() == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert measure(student, teacher + shift).item() == pytest.approx(expected, rel=1e-3, abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(logits(), st.randoms(use_true_random=False))
def test_the_order_of_samples_and_classes_does_not_matter(pair, random):
    measure = loss(tau=4.0, kl_weight=1.0, cor_weight=1.0, intra_weight=1.0)
    rows, columns = (random.sample(range(n), n) for n in pair[0].shape)
    moved = [x[rows][:, columns] for x in pair]
    assert measure(*moved).item() == pytest.approx(measure(*pair).item(), rel=1e-3, abs=1e-4)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(SHAPES)), st.floats(0, 1), numbers, numbers)
def test_a_schedule_stays_between_its_ends(shape, progress, start, end):
    value = SHAPES[shape](progress, start, end)
    low, high = sorted((start, end))
    assert low - 1e-9 * (1 + abs(low)) <= value <= high + 1e-9 * (1 + abs(high))


@given(st.sampled_from(sorted(SHAPES)), numbers, numbers)
def test_a_schedule_begins_at_its_start(shape, start, end):
    assert SHAPES[shape](0.0, start, end) == pytest.approx(start, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(sorted(SHAPES)), st.floats(0, 1), st.floats(0, 1))
def test_a_schedule_is_monotonic(shape, one, other):
    early, late = sorted((one, other))
    assert SHAPES[shape](early, 0.0, 1.0) <= SHAPES[shape](late, 0.0, 1.0) + 1e-12
