import math
import statistics

import numpy as np
import pytest
from scipy import stats

from prkd_mm.stats.paired import Difference, difference, mean_std


def test_mean_and_standard_deviation_are_shown_together():
    # of 1, 2, 3, 4: mean 2.5, variance (2.25 + 0.25 + 0.25 + 2.25)/3 = 5/3
    assert mean_std([1, 2, 3, 4]) == '2.50 ± 1.29'
    assert mean_std([2.0]) == '2.00'  # one run has no spread
    assert mean_std([]) == '–'
    assert mean_std([-1, 3], '+') == '+1.00 ± 2.83'


@pytest.mark.parametrize('n', [2, 3, 5, 10])
def test_the_interval_is_that_of_scipys_paired_t_test(n):
    generator = np.random.default_rng(n)
    one, other = generator.normal(60, 1, n), generator.normal(59, 1, n)
    found = difference('a', 'b', dict(enumerate(one)), dict(enumerate(other)))
    expected = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert found.mean == pytest.approx((one - other).mean(), rel=1e-12)
    assert found.standard_error == pytest.approx(stats.sem(one - other), rel=1e-12)


def test_the_interval_of_three_differences_equals_that_by_hand():
    """Differences 1, 2, 3: mean 2, deviation 1; at 2 degrees of freedom P(|t| < x) is
    x/√(2 + x²), so that x = c·√(2/(1 − c²)) = 4.303 at c = 0.95."""
    half = 0.95 * math.sqrt(2 / (1 - 0.95**2)) / math.sqrt(3)
    low, high = Difference('a', 'b', (1.0, 2.0, 3.0)).interval
    assert (low, high) == pytest.approx((2 - half, 2 + half), rel=1e-12)


@pytest.mark.parametrize(
    'values, verdict',
    [
        ((1.0, 1.1, 0.9), 'yes'),
        ((-1.0, -1.1, -0.9), 'no'),
        ((1.0, -1.0, 0.5), 'cannot tell'),
        ((5.0,), 'cannot tell'),  # no interval
        ((0.0, 0.0), 'cannot tell'),
    ],
)
def test_the_verdict_follows_from_the_interval(values, verdict):
    assert Difference('a', 'b', values).verdict == verdict


def test_a_seed_that_only_one_method_has_does_not_count():
    found = difference('a', 'b', {0: 3.0, 1: 5.0, 7: 90.0}, {1: 4.0, 0: 1.0, 2: 0.0})
    assert found.values == (2.0, 1.0)
    assert found.mean == statistics.fmean([2, 1])
    assert difference('a', 'b', {0: 1.0}, {1: 1.0}) is None
