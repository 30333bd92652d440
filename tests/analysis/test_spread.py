import pytest
import torch
from torch import nn

from prkd_mm.analysis.batches import accuracy
from prkd_mm.analysis.spread.measure import (
    averages,
    disagreement,
    flat,
    gain,
    last_step,
    weight_spread,
)
from prkd_mm.stats.estimates import Estimate


def test_the_spread_of_two_points_follows_from_their_distance():
    found = weight_spread([torch.tensor([4.0, 3.0]), torch.tensor([0.0, 3.0])])
    assert found.distances == [[0.0, 4.0], [4.0, 0.0]]
    assert found.mean_distance == 4.0
    assert found.variance == pytest.approx(4**2 / 2)
    assert found.relative_rms == pytest.approx(8**0.5 / 13**0.5)


def test_the_spread_of_many_points_is_their_variance():
    torch.manual_seed(0)
    x = 1e-3 * torch.randn(6, 50) + 100  # where x·x − 2x·y + y·y has no digits
    found = weight_spread(list(x))
    assert found.variance == pytest.approx(x.double().var(0).sum().item(), rel=1e-6)
    d = (x[:, None].double() - x).norm(dim=2)
    assert found.mean_distance == pytest.approx(d.sum().item() / 30, rel=1e-6)


def test_the_last_step_is_that_between_the_last_two_epochs(tmp_path):
    for epoch, weight, statistic in ((7, 9.0, 1.0), (8, 1.0, 2.0), (9, 4.0, 3.0)):
        state = dict(w=torch.tensor([[weight, 3.0]]), running_mean=torch.tensor(statistic))
        torch.save(dict(state_dict=state, meta={}), tmp_path / f'epoch_{epoch}.pth')
    # (1, 3) and (4, 3): their mean is (2.5, 3)
    assert last_step(tmp_path, ['w']) == pytest.approx((3.0, (2.5**2 + 3**2) ** 0.5))
    (tmp_path / 'epoch_8.pth').unlink()
    assert last_step(tmp_path, ['w']) is None


def test_disagreement_is_the_mean_over_pairs():
    same, other = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 2, 0])
    assert disagreement([same, same]) == 0
    assert disagreement([same, other]) == 0.25
    assert disagreement([same, same, other]) == pytest.approx(0.5 / 3)


def test_named_tensors_are_joined_in_the_given_order():
    state = dict(a=torch.tensor([[1.0, 2.0]]), b=torch.tensor(3))
    assert flat(state, ['b', 'a', 'b']).tolist() == [3.0, 1.0, 2.0, 3.0]


def test_gain_is_paired():
    labels = torch.tensor([0, 1, 2, 0])
    raw = [torch.tensor([0, 1, 0, 1]), torch.tensor([0, 1, 2, 1])]
    assert [accuracy(x, labels) for x in raw] == [50.0, 75.0]
    found = gain(labels, raw, labels)
    assert found.mean == pytest.approx(100 - 62.5)
    difference = 100 * torch.tensor([0.0, 0.0, 0.5, 1.0])
    assert found.error == pytest.approx(difference.std().item() / 2)
    assert gain(raw[0], raw[:1], labels) == Estimate(0.0, 0.0)


def test_averages_cover_the_last_students():
    net, calls = nn.Linear(1, 1, bias=False), []
    states = {epoch: dict(weight=torch.tensor([[float(epoch)]])) for epoch in (1, 2, 6)}
    found = averages(states, net, calls.append, lambda net: net.weight.item())
    assert found == {1: 6.0, 2: 4.0, 3: 3.0}
    assert calls == [net, net]  # a single one has its own statistics
