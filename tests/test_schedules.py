import math

import pytest

from prkd_mm.schedules import SHAPES, Schedule, progress

R = [0.0, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1.0]


def test_there_are_four_shapes():
    assert sorted(SHAPES) == ['constant', 'cosine', 'linear', 'step']


@pytest.mark.parametrize('start, end', [(4.0, 1.0), (0.0, 1.0), (1.0, 0.0), (2, 2)])
def test_values_follow_the_formulas(start, end):
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
def test_a_weight_that_decreases_to_0_reaches_0(shape):
    for weight in (1.0, 0.1, 0.7):  # never below, since a loss rejects negative weights
        assert SHAPES[shape](1.0, weight, 0.0) == 0
        assert SHAPES[shape](0.0, 0.0, weight) == 0
        assert min(SHAPES[shape](i / 997, weight, 0.0) for i in range(998)) == 0


def test_the_temperature_follows_the_formula_of_the_paper():
    """From 4 to 1 over 240 epochs, tau(e) = tau - (tau - tau_L) e / E."""
    assert [SHAPES['linear'](e / 240, 4.0, 1.0) for e in (0, 80, 120, 239)] == pytest.approx(
        [4.0, 3.0, 2.5, 1.0125], abs=1e-12
    )


@pytest.mark.parametrize(
    'args, expected',
    [((0, 8), 0), ((2, 8), 0.25), ((8, 8), 1), ((9, 8), 1), ((3, 8, 4), 0), ((5, 8, 4), 0.25)],
)
def test_progress_is_the_completed_share_of_the_window(args, expected):
    assert progress(*args) == expected


@pytest.mark.parametrize('shape', sorted(SHAPES))
def test_a_value_is_start_plus_the_share_of_the_distance_to_the_end(shape):
    schedule = Schedule('loss', 'tau', start=3, end=1, shape=shape)
    assert schedule.name == 'loss.tau'
    for r in R:
        share = SHAPES[shape](r, 0.0, 1.0)
        assert schedule.at(r) == pytest.approx(3 + (1 - 3) * share, abs=1e-12)


def test_an_unsolved_schedule_has_no_values():
    with pytest.raises(RuntimeError, match='loss.cor_weight has not been solved'):
        Schedule('loss', 'cor_weight', start=0, relax_to=0.5).at(0.5)
