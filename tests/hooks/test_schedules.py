import math

import pytest

from prkd_mm.hooks.schedules import SHAPES

R = [0.0, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1.0]


def test_all_are_named():
    assert sorted(SHAPES) == ['constant', 'cosine', 'linear', 'step']


@pytest.mark.parametrize('start, end', [(4.0, 1.0), (0.0, 1.0), (1.0, 0.0), (2, 2)])
def test_values(start, end):
    for r in R:
        assert SHAPES['linear'](r, start, end) == pytest.approx(
            (1 - r) * start + r * end, abs=1e-12
        )
        assert SHAPES['cosine'](r, start, end) == pytest.approx(
            end + (start - end) * math.cos(math.pi * r / 2) ** 2, abs=1e-12
        )
        assert SHAPES['step'](r, start, end) == (start, end)[r >= 0.5]
        assert SHAPES['constant'](r, start, end) == start


@pytest.mark.parametrize('shape', ['linear', 'cosine', 'step'])
def test_weights_that_go_to_0_get_there(shape):
    for weight in (1.0, 0.1, 0.7):  # and never below, which a loss refuses
        assert SHAPES[shape](1.0, weight, 0.0) == 0
        assert SHAPES[shape](0.0, 0.0, weight) == 0
        assert min(SHAPES[shape](i / 997, weight, 0.0) for i in range(998)) == 0


def test_the_methods_temperature():
    """From 4 to 1 over 240 epochs, tau(e) = tau - (tau - tau_L) e / E."""
    assert [SHAPES['linear'](e / 240, 4.0, 1.0) for e in (0, 80, 120, 239)] == pytest.approx(
        [4.0, 3.0, 2.5, 1.0125], abs=1e-12
    )
