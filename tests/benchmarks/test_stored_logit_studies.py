"""Studies of the accuracy with stored logits: number of views, number of logits."""

import math
from types import SimpleNamespace

import pytest
import torch
from matplotlib.image import imread
from scipy.stats import ttest_rel

from benchmarks import topk, views
from prkd_mm.experiments.results import Row


def test_accuracy_is_listed_by_the_number_of_views(tmp_path):
    def row(*accuracies):
        runs = [SimpleNamespace(seed=i, averaged=a, last=0.0) for i, a in enumerate(accuracies)]
        return Row('KD', 'kd', runs)

    rows = {'1': [row(50.0, 52.0, 51.5)], 'live': [row(60.0, 60.0, 60.5)]}
    table = views.table(rows)
    assert table.header == ['views', 'KD, %', 'KD − live, 95 %']
    assert [cells[0] for cells in table.rows] == ['1', 'live']
    (_, few, paired), (_, live, none) = table.rows
    assert few.startswith('51.17') and live.startswith('60.17') and none == '–'
    interval = ttest_rel([50.0, 52.0, 51.5], [60.0, 60.0, 60.5]).confidence_interval(0.95)
    assert paired == f'-9.00 ({interval.low:+.2f} to {interval.high:+.2f})'
    views.draw(rows, tmp_path / 'views.png')
    assert (imread(tmp_path / 'views.png')[..., :3] < 0.9).any()


def test_top_k_costs_nothing_if_all_logits_are_kept_and_less_the_more_are_kept():
    torch.manual_seed(0)
    logits = 3 * torch.randn(50, 40)
    rows = topk.losses(logits).rows
    assert [row[0] for row in rows] == ['4', '8', '16', '32', 'all']
    for column in (2, 3):
        divergences = [float(row[column]) for row in rows]
        assert divergences == sorted(divergences, reverse=True)
        assert divergences[-1] < 1e-6 < divergences[-2]
    p, q = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.7, 0.15, 0.15]])
    expected = 0.2 * math.log(0.2 / 0.15) + 0.1 * math.log(0.1 / 0.15)
    assert topk.divergence(p.log(), q.log(), 1.0) == pytest.approx(expected, rel=1e-6)
