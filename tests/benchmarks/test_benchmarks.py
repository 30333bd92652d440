"""Benchmarks compare equal things, and their arithmetic is right."""

import json
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import toy
from matplotlib.image import imread
from mmengine.model import ExponentialMovingAverage
from mmrazor.registry import MODELS

from benchmarks import average, feed, floors, logging, loss, step, timing
from benchmarks import images as data
from benchmarks.comparison import Settings, UnequalError, compare
from benchmarks.nets import PAIRS, Pair
from benchmarks.timing import OURS, STOCK, TUNED, Case, Summary

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device('cpu')
PEAKS = floors.Peaks(1e11, 1e10)


class FakeClock:
    """Time passes only where a case says so; wall time twice as fast."""

    def __init__(self):
        self.now, self.turns = 0.0, []

    def __call__(self, workers=()):
        return self.now + sum(workers), 2 * self.now

    def case(self, name, side, seconds, **kwargs):
        seconds = iter(seconds)

        def run():
            self.turns.append(name)
            self.now += next(seconds)

        return Case(name, side, run, **kwargs)


def settings(clock=None, **kwargs):
    made = Settings(CPU, **{'rounds': 2, 'seconds': 0.0, **kwargs})
    made.clock = clock or made.clock
    return made


class TestTiming:
    def test_summary_is_median_and_quartiles(self):
        assert Summary.of([5, 1, 3, 2, 4]) == Summary(3, 2, 4)
        assert Summary.of([1, 2]) == Summary(1.5, 1.25, 1.75)
        assert Summary.of([7]) == Summary(7, 7, 7)

    def test_cases_take_turns(self):
        clock = FakeClock()
        samples = timing.measure(
            [clock.case('a', STOCK, [1, 2, 3]), clock.case('b', OURS, [10, 20, 30], units=10)],
            3,
            1e9,
            clock,
        )
        assert clock.turns == list('abbaab')
        assert samples['a'] == timing.Samples([1, 2, 3], [2, 4, 6])
        assert samples['b'] == timing.Samples([1, 2, 3], [2, 4, 6])

    @pytest.mark.parametrize(
        'rounds, seconds, done', [(9, 0, 3), (9, 7.9, 4), (9, 1e9, 9), (2, 0, 2)]
    )
    def test_rounds_end_with_the_time_but_are_three(self, rounds, seconds, done):
        clock, seen = FakeClock(), []
        timing.measure([clock.case('a', OURS, [1] * 9)], rounds, seconds, clock, seen.append)
        assert seen == list(range(1, done + 1))

    def test_speedup_is_by_round(self):
        # the ratio of the medians would be 1
        ratios = timing.speedup([1, 2, 3], [4, 2, 1])
        assert ratios.median == 1 and (ratios.low, ratios.high) == (pytest.approx(2 / 3), 2.5)

    def test_a_worker_counts(self):
        clock = FakeClock()
        spent = iter([[0], [5]])  # of a worker, before and after
        case = clock.case('a', OURS, [1], workers=lambda: next(spent))
        assert timing.measure([case], 1, 0, clock)['a'].cpu == [6]

    def test_cpu_time_of_another_process(self):
        context = multiprocessing.get_context('fork')
        process = context.Process(target=_burn, args=(0.3,))
        clock = timing.Clock(CPU)
        process.start()
        before = clock()[0]
        time.sleep(0.05)
        while clock([process.pid])[0] - before < 0.2:
            time.sleep(0.01)
        assert clock()[0] - before < 0.15  # it was not this one's
        process.join()

    def test_peak_memory(self):
        x = torch.zeros(250_000)  # 1 MB

        def run():
            y = x + 1
            y = y + 1  # two at a time, never three
            return (y + 1).sum()

        assert timing.peak_memory(run, CPU) == pytest.approx(2e6, rel=1e-3)


def _burn(seconds):
    while time.process_time() < seconds:
        pass


class TestComparison:
    def made(self):
        clock = FakeClock()
        return compare(
            settings(clock, rounds=3),
            'step',
            'a step',
            'step',
            [
                clock.case('slow', STOCK, [8, 8, 8]),
                clock.case('slower', STOCK, [9, 9, 9]),
                clock.case('tuned', TUNED, [4, 4, 4]),
                clock.case('ours', OURS, [2, 4, 2]),
            ],
        )

    def test_speedups_are_over_the_cheapest_of_a_side(self):
        comparison = self.made()
        assert comparison.opponents() == [STOCK, TUNED]
        ours = comparison['ours'].speedups
        assert {side: ratio.median for side, ratio in ours.items()} == {STOCK: 4, TUNED: 2}
        assert not comparison['tuned'].speedups

    def test_bars(self):
        comparison = self.made()
        comparison.expect_speedup('ours', STOCK, 4.0)
        comparison.expect_speedup('ours', TUNED, 2.1)
        assert [bar.reached for bar in comparison.bars] == [True, False]
        assert [bar['reached'] for bar in comparison.as_dict()['bars']] == [True, False]


@pytest.fixture(scope='module')
def logged(tmp_path_factory):
    """What the first step of each algorithm logs."""
    pair = Pair(PAIRS[2], CPU, batch=4)
    folder = tmp_path_factory.mktemp('store') / 'logits'
    return {name: dict(one()) for name, (_, one) in pair.ways(folder).items()}


class TestEqual:
    """What is compared computes the same, and anything else is refused."""

    def test_losses(self, monkeypatch):
        problem = loss.Problem(32, 20, CPU)
        functions = [function for _, function in loss.losses().values()]
        loss.check_equal(problem, functions)
        with pytest.raises(UnequalError, match='nothing to compare'):
            loss.check_equal(problem, functions + [lambda s, t: 1.01 * functions[0](s, t)])

    def test_feeds(self, tmp_path):
        images = data.Images(
            data.in_memory(64),
            'made up',
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
        feed.check_equal(images, 32, str(tmp_path), CPU)
        images.pipeline = images.plain()
        with pytest.raises(UnequalError, match='crop and flip'):
            feed.check_equal(images, 32, str(tmp_path), CPU)

    def test_steps(self, logged):
        assert list(logged) == [
            'stock',
            'tuned stock',
            'student alone',
            'ours, live',
            'ours, live, BN folded',
            'ours, stored',
        ]
        stock = logged['stock']['distill.loss_kl']
        assert stock > 1e-3  # there is something to be equal
        torch.testing.assert_close(
            logged['ours, live']['distill.loss_prkd'], stock, rtol=1e-4, atol=0.0
        )
        step.check_equal(logged, exact=True)

    def test_other_steps_are_refused(self, logged):
        other = dict(logged['ours, live'])
        other['distill.loss_prkd'] = 1.01 * other['distill.loss_prkd']
        with pytest.raises(UnequalError, match='nothing to compare'):
            step.check_equal(dict(logged, other=other), exact=True)

    def test_averages(self, monkeypatch):
        average.check_equal(torch.nn.Linear(3, 4))
        monkeypatch.setattr(average, 'StochasticWeightAverage', ExponentialMovingAverage)
        with pytest.raises(UnequalError, match='nothing to compare'):
            average.check_equal(torch.nn.Linear(3, 4))

    def test_log_lines(self):
        logging.check_equal(CPU)


@pytest.mark.parametrize('name, size', [('cifar100', 32), ('tinyimagenet', 64)])
def test_images_are_made_up_where_there_are_none(name, size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = data.find_images(name, 20, tmp_path)
    assert found.source.startswith('made up')
    images = found.build(found.plain())
    assert len(images) == 20
    pixels = images[0]['inputs']
    assert pixels.shape == (3, size, size) and pixels.dtype == torch.uint8
    assert found.build(found.pipeline)[0]['inputs'].shape == pixels.shape


def test_flops_of_a_net_of_two_convolutions():
    net = MODELS.build(toy.classifier(width=4))
    # multiply-adds: two 3x3 convolutions of 8x8 pixels, and the classifier;
    # few more for batch norm and pooling
    expected = 2 * (64 * 9 * 4 * (3 + 4) + 4 * toy.NUM_CLASSES)
    assert expected < floors.forward_flops(net, 8) < 1.2 * expected


def test_every_part_of_a_step_has_its_time(tmp_path):
    pair = Pair(PAIRS[2], CPU, batch=2)
    one = pair.ways(tmp_path / 'logits')['stock'][1]
    one()
    one.forget()
    start = time.process_time()
    one()
    spent = time.process_time() - start
    sections = one.sections()
    assert list(sections) == [
        'prepare',
        'teacher',
        'student',
        'distill',
        'backward',
        'update',
        'rest',
    ]
    assert sum(sections.values()) == pytest.approx(spent, rel=0.05)
    assert all(seconds > 0 for seconds in sections.values())


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """All subjects, as a user runs them, at a tiny size."""
    out = tmp_path_factory.mktemp('out')
    done = subprocess.run(
        [
            sys.executable,
            'tools/benchmark.py',
            'all',
            '--quick',
            '--rounds',
            '2',
            '--seconds',
            '0',
            '--batch',
            '4',
            '--images',
            '200',
            '--size',
            '16',
            '--pair',
            PAIRS[2],
            '--shapes',
            '8x10',
            '--iterations',
            '200',
            '400',
            '--out',
            out,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_all_subjects(written):
    out, shown = written
    numbers = json.loads((out / 'benchmark.json').read_text())
    subjects = [each['subject'] for each in numbers['comparisons']]
    assert subjects == ['feed', 'feed', 'step', 'loss', 'average', 'logging', 'logging']
    for each in numbers['comparisons']:
        assert each['title'] in shown and each['rounds'] == 2
        sides = [result['side'] for result in each['results']]
        assert STOCK in sides and OURS in sides
        for result in each['results']:
            assert result['time']['median'] > 0
    assert numbers['machine']['threads'] == 1
    assert len(numbers['scaling']) == 7
    for name in ('bars.png', 'scaling.png'):
        pixels = imread(out / name)[..., :3]
        assert (pixels < 0.9).any(-1).mean() > 0.01  # not a white page


def test_tables_are_fit_for_a_document(written):
    lines = (written[0] / 'tables.md').read_text().splitlines()
    assert lines[0].startswith('`python tools/benchmark.py all')
    assert '### Step of wrn_40_2_wrn_16_2_cifar100' in lines
    width = None
    for line in lines:
        cells = line.count('|')
        assert not cells or width in (None, cells), line
        width = cells or None


def test_an_error_is_one_line(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            'tools/benchmark.py',
            'step',
            '--pair',
            'nothing',
            '--quick',
            '--out',
            tmp_path,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith('error: there is no config')
    assert done.stderr.count('\n') == 1


def test_settings():
    with pytest.raises(ValueError, match='rounds must be at least 1, got 0'):
        settings(rounds=0)
