import numpy as np
import pytest
import torch
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from mmpretrain.models.classifiers import TimmClassifier
from torch import nn

from prkd_mm.averaging import (
    add_to_sum,
    batch_norm_statistics,
    mean_of,
    mean_state,
    restore_statistics,
    trained_weights,
)

weights = st.lists(st.floats(-1e4, 1e4, width=32, allow_nan=False), min_size=3, max_size=3)


@settings(max_examples=50, deadline=None)
@given(st.lists(weights, min_size=1, max_size=30))
def test_mean_equals_numpys_mean_rounded_once(values):
    states = [dict(w=torch.tensor(row, dtype=torch.float32)) for row in values]
    exact = np.sum(np.array(values, np.float32), 0, np.float64) / len(values)
    assert torch.equal(mean_of(states)['w'], torch.from_numpy(exact.astype(np.float32)))


@settings(max_examples=20, deadline=None)
@given(weights, st.integers(1, 200))
def test_mean_of_equal_students_is_that_student(row, count):
    state = dict(w=torch.tensor(row, dtype=torch.float32))
    assert torch.equal(mean_of([state] * count)['w'], state['w'])


def test_the_sum_keeps_digits_that_float32_would_lose():
    states = [dict(w=torch.tensor([1e8])), dict(w=torch.tensor([1.0]))] * 50
    total = {}
    for state in states:
        add_to_sum(total, state)
    assert total['w'].dtype == torch.double and total['w'].item() == 50 * (1e8 + 1)


def test_the_sum_leaves_the_students_unchanged():
    state, total = dict(w=torch.ones(2)), {}
    add_to_sum(total, state)
    add_to_sum(total, state)
    assert torch.equal(state['w'], torch.ones(2)) and total['w'].tolist() == [2, 2]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_mean_has_the_data_type_of_the_students(dtype):
    states = [dict(w=torch.tensor([1.0], dtype=dtype)), dict(w=torch.tensor([2.0], dtype=dtype))]
    mean = mean_of(states)['w']
    assert mean.dtype == dtype and mean.item() == 1.5


def test_integers_and_named_tensors_come_from_the_latest_student():
    first = dict(w=torch.tensor([0.0]), mean=torch.tensor([1.0]), steps=torch.tensor(1))
    latest = dict(w=torch.tensor([4.0]), mean=torch.tensor([5.0]), steps=torch.tensor(7))
    total = {}
    for state in (first, latest):
        add_to_sum(total, state)
    state = mean_state(total, 2, latest, keep_from_latest={'mean'})
    assert {name: value.item() for name, value in state.items()} == dict(w=2, mean=5, steps=7)
    assert list(state) == list(latest)


class TestBatchNormStatistics:
    def net(self):
        return nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.BatchNorm2d(5, track_running_stats=False)
        )

    def test_names_are_those_of_running_statistics(self):
        assert batch_norm_statistics(self.net()) == {
            '1.running_mean', '1.running_var', '1.num_batches_tracked'
        }  # fmt: skip

    def test_names_of_a_bare_layer_are_those_of_its_state_dict(self):
        assert batch_norm_statistics(nn.BatchNorm2d(5)) == {
            'running_mean', 'running_var', 'num_batches_tracked'
        }  # fmt: skip

    def test_a_trained_weight_that_is_not_saved_is_named(self):
        class Net(torch.nn.Linear):
            def state_dict(self, *args, **kwargs):
                return dict(bias=self.bias)

        with pytest.raises(ValueError, match="does not contain its weight 'weight'"):
            trained_weights(Net(2, 2))

    def test_trained_weights_have_the_names_of_the_state_dict(self):
        net = nn.ModuleDict(dict(model=self.net()))
        net['model'][0].bias.requires_grad_(False)
        net._register_state_dict_hook(TimmClassifier._remove_state_dict_prefix)
        assert trained_weights(net) == ['0.weight', '1.weight', '1.bias', '2.weight', '2.bias']

    def test_only_statistics_are_restored(self):
        one, two = self.net(), self.net()
        one(torch.randn(4, 3, 8, 8))
        weights = two[0].weight.clone()
        restore_statistics(one.state_dict(), two)
        toy.assert_same(dict(two[1].named_buffers()), dict(one[1].named_buffers()))
        assert torch.equal(two[0].weight, weights)
