import statistics

import pytest

from prkd_mm.experiments.comparison_report import Row, _mean, mean_std


def test_mean_and_standard_deviation():
    # of 1, 2, 3, 4: mean 2.5, variance (9 + 1 + 1 + 9)/4/3 = 5/3
    assert mean_std([1, 2, 3, 4]) == '2.50 ± 1.29'
    assert mean_std([2.0]) == '2.00'  # one run has no spread
    assert mean_std([]) == '–'
    assert mean_std([-1, 3], '+') == '+1.00 ± 2.83'


def test_the_gain_is_of_each_run_by_itself():
    """Its spread is not that of the accuracies, which move together."""
    row = Row('x', last=[70.0, 80.0], averaged=[71.0, 81.0], best=[90.0, 90.0], seconds=[2.0, 4.0])
    assert row.gain == [1, 1]
    assert row.cells() == [
        'x',
        '75.00 ± 7.07',
        '76.00 ± 7.07',
        '+1.00 ± 0.00',
        '90.00 ± 0.00',
        '0',
        '3 s',
    ]


def test_curves_are_averaged_where_all_runs_have_a_value():
    assert _mean([{1: 2.0, 2: 4.0}, {2: 8.0, 3: 1.0}]) == {2: 6.0}
    assert statistics.fmean([4, 8]) == pytest.approx(6)
