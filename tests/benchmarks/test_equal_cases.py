"""Compared cases compute the same thing; anything else is an error."""

import pytest
import torch
import toy
from mmengine.model import ExponentialMovingAverage
from mmrazor.registry import MODELS

from benchmarks import feed, hooks, loss, lower_bounds, step, timing
from benchmarks import images as data
from benchmarks.comparison import UnequalError
from benchmarks.nets import PAIRS, Pair
from prkd_mm.datasets import PackedImages

CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def logged(tmp_path_factory):
    """Log of the first step of each algorithm."""
    pair = Pair(PAIRS[2], CPU, batch=4)
    folder = tmp_path_factory.mktemp('store') / 'logits'
    return {name: dict(one()) for name, (_, one) in step.make_steps(pair, folder).items()}


class TestEqual:
    def test_losses_are_equal(self, monkeypatch):
        problem = loss.Problem(32, 20, CPU)
        functions = [function for _, function in loss.losses().values()]
        loss.check_equal(problem, functions)
        with pytest.raises(UnequalError, match='times cannot be compared'):
            loss.check_equal(problem, functions + [lambda s, t: 1.01 * functions[0](s, t)])

    def test_feeds_are_equal(self, tmp_path):
        images = data.Images(
            data.in_memory(64),
            'synthetic',
            [
                dict(type='RandomCrop', crop_size=32, padding=4),
                dict(type='RandomFlip', prob=0.5, direction='horizontal'),
                dict(type='PackInputs'),
            ],
            dict(
                type='mmpretrain.ClsDataPreprocessor',
                mean=[1.0, 2.0, 3.0],
                std=[4.0, 5.0, 6.0],
                to_rgb=True,
            ),
        )
        common = dict(ours=PackedImages, folder=str(tmp_path), device=CPU, batch=32)
        feed.check_equal(images, **common)
        images.pipeline = images.plain()
        with pytest.raises(UnequalError, match='crop and flip'):
            feed.check_equal(images, **common)

    def test_steps_are_equal(self, logged):
        assert list(logged) == [
            'stock',
            'tuned stock',
            'student alone',
            'ours, live',
            'ours, live, BN folded',
            'ours, stored',
        ]
        stock = logged['stock']['distill.loss_kl']
        assert stock > 1e-3  # not trivially equal
        torch.testing.assert_close(
            logged['ours, live']['distill.loss_prkd'], stock, rtol=1e-4, atol=0.0
        )
        step.check_equal(logged, exact=True)

    def test_unequal_steps_are_an_error(self, logged):
        other = dict(logged['ours, live'])
        other['distill.loss_prkd'] = 1.01 * other['distill.loss_prkd']
        with pytest.raises(UnequalError, match='times cannot be compared'):
            step.check_equal(dict(logged, other=other), exact=True)

    def test_averages_are_equal(self, monkeypatch):
        hooks.check_same_mean(torch.nn.Linear(3, 4))
        monkeypatch.setattr(hooks, 'StochasticWeightAverage', ExponentialMovingAverage)
        with pytest.raises(UnequalError, match='times cannot be compared'):
            hooks.check_same_mean(torch.nn.Linear(3, 4))

    def test_log_lines_are_equal(self):
        hooks.check_same_log(CPU)


@pytest.mark.parametrize(
    'name, size', [('cifar100', 32), ('tinyimagenet', 64), ('caltech256', 224)]
)
def test_synthetic_images_have_the_size_of_the_data_set(name, size, tmp_path):
    made = data.make_images(name, 20, tmp_path)
    images = made.build(made.plain())
    assert len(images) == 20
    pixels = images[0]['inputs']
    assert pixels.shape == (3, size, size) and pixels.dtype == torch.uint8
    assert made.build(made.pipeline)[0]['inputs'].shape == pixels.shape


def test_flops_of_a_net_with_two_convolutions():
    net = MODELS.build(toy.classifier(width=4))
    # multiply-adds: two 3x3 convolutions of 8x8 pixels, and the classifier;
    # a few more for batch norm and pooling
    expected = 2 * (64 * 9 * 4 * (3 + 4) + 4 * toy.NUM_CLASSES)
    assert expected < lower_bounds.forward_flops(net, 8) < 1.2 * expected


class CountingClock(timing.Clock):
    """A clock that advances by one second at each mark."""

    def __init__(self):
        super().__init__(CPU)
        self.now = 0.0

    def mark(self):
        self.now += 1
        return self.now


def test_sections_of_a_step_add_up_to_its_time(tmp_path):
    pair = Pair(PAIRS[2], CPU, batch=2)
    one = step.make_steps(pair, tmp_path / 'logits')['stock'][1]
    one.clock = CountingClock()
    for _ in range(2):
        one()
    names = ['prepare', 'teacher', 'student', 'distill', 'backward', 'update']
    # 14 marks: those at the start and end of the step are 13 s apart
    assert one.sections() == {**dict.fromkeys(names, 1.0), 'rest': 13.0 - 6}
    one.reset()
    one()
    assert one.sections()['rest'] == 7.0
