import math

import pytest

from prkd_mm.stats.estimates import Estimate, mean_and_deviation, mean_and_standard_error


def test_deviation_is_of_the_values_and_standard_error_of_their_mean():
    # 1, 2, 3, 4: mean 2.5, variance (9 + 1 + 1 + 9)/4/3 = 5/3
    deviation = (5 / 3) ** 0.5
    assert mean_and_deviation([1, 2, 3, 4]) == pytest.approx((2.5, deviation))
    assert mean_and_standard_error([1, 2, 3, 4]) == pytest.approx((2.5, deviation / 2))


@pytest.mark.parametrize('function', [mean_and_deviation, mean_and_standard_error])
def test_one_value_has_no_error_and_none_has_no_mean(function):
    mean, error = function([3.0])
    assert mean == 3.0 and math.isnan(error)
    assert all(map(math.isnan, function([])))


def test_format_shows_the_error_if_there_is_one():
    assert f'{Estimate(1.234, 0.567):.2f}' == '1.23 ± 0.57'
    assert f'{Estimate(1.234, 0.567):+.1f}' == '+1.2 ± 0.6'
    assert f'{Estimate(1.234, math.nan):.2f}' == '1.23'
