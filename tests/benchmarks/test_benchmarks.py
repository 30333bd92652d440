"""Benchmarks compare cases with equal results, and compute times correctly."""

import json
import math
import multiprocessing
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
import toy
from matplotlib.image import imread
from mmengine.model import ExponentialMovingAverage
from mmpretrain.models.utils import ClsDataPreprocessor
from mmpretrain.registry import DATASETS
from mmrazor.models.algorithms import SingleTeacherDistill
from mmrazor.registry import MODELS
from project import ROOT

from benchmarks import feed, hooks, loss, lower_bounds, step, timing, topk, views, whole_run
from benchmarks import images as data
from benchmarks.comparison import Settings, UnequalError, compare
from benchmarks.nets import PAIRS, Pair
from benchmarks.timing import OURS, STOCK, TUNED, Case, Summary
from prkd_mm.datasets import PackedImages
from prkd_mm.experiments.results import Row

CPU = torch.device('cpu')


class FakeClock:
    """A clock that only the cases advance; wall time runs twice as fast as CPU time."""

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

    def test_cases_are_interleaved(self):
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
    def test_no_round_starts_after_the_time_limit_but_three_are_run(self, rounds, seconds, done):
        clock = FakeClock()
        timing.measure([clock.case('a', OURS, [1] * 9)], rounds, seconds, clock)
        assert clock.turns == ['a'] * done

    def test_speedup_is_computed_per_round(self):
        # the ratio of the medians would be 1
        ratios = timing.speedup([1, 2, 3], [4, 2, 1])
        assert ratios.median == 1 and (ratios.low, ratios.high) == (pytest.approx(2 / 3), 2.5)

    def test_cpu_time_of_workers_is_included(self):
        clock = FakeClock()
        spent = iter([[0], [5]])  # a worker's CPU time before and after
        case = clock.case('a', OURS, [1], workers=lambda: next(spent))
        assert timing.measure([case], 1, 0, clock)['a'].cpu == [6]

    def test_cpu_time_of_another_process_is_read(self):
        context = multiprocessing.get_context('fork')
        process = context.Process(target=_burn, args=(0.3,))
        clock = timing.Clock(CPU)
        process.start()
        before = clock()[0]
        time.sleep(0.05)
        deadline = time.monotonic() + 60
        while clock([process.pid])[0] - before < 0.2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert clock([process.pid])[0] - before >= 0.2
        assert clock()[0] - before < 0.15  # this process has spent none of it
        process.join()

    def test_peak_memory_counts_tensors_that_exist_at_once(self):
        x = torch.zeros(250_000)  # 1 MB

        def run():
            y = x + 1
            y = y + 1  # two tensors exist at a time, never three
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
            note='',
        )

    def test_speedups_are_over_the_fastest_case_of_a_side(self):
        comparison = self.made()
        assert comparison.opponents() == [STOCK, TUNED]
        ours = comparison['ours'].speedups
        assert {side: ratio.median for side, ratio in ours.items()} == {STOCK: 4, TUNED: 2}
        assert not comparison['tuned'].speedups

    def test_targets_are_compared_with_their_limits(self):
        comparison = self.made()
        comparison.expect_speedup('ours', STOCK, 4.0)
        comparison.expect_speedup('ours', TUNED, 2.1)
        assert [target.reached for target in comparison.targets] == [True, False]
        assert [target.limit for target in comparison.targets] == ['at least 4', 'at least 2.1']


@pytest.fixture(scope='module')
def logged(tmp_path_factory):
    """Log of the first step of each algorithm."""
    pair = Pair(PAIRS[2], CPU, batch=4)
    folder = tmp_path_factory.mktemp('store') / 'logits'
    return {name: dict(one()) for name, (_, one) in step.make_steps(pair, folder).items()}


class TestEqual:
    """Compared cases compute the same thing; anything else is an error."""

    def test_losses_are_equal(self, monkeypatch):
        problem = loss.Problem(32, 20, CPU)
        functions = [function for _, function in loss.losses().values()]
        loss.check_equal(problem, functions)
        with pytest.raises(UnequalError, match='nothing to compare'):
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
        with pytest.raises(UnequalError, match='nothing to compare'):
            step.check_equal(dict(logged, other=other), exact=True)

    def test_averages_are_equal(self, monkeypatch):
        hooks.check_same_mean(torch.nn.Linear(3, 4))
        monkeypatch.setattr(hooks, 'StochasticWeightAverage', ExponentialMovingAverage)
        with pytest.raises(UnequalError, match='nothing to compare'):
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


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """All subjects, run from the command line at a tiny size."""
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
            '64',
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


def test_all_subjects_write_their_results(written):
    out, shown = written
    numbers = json.loads((out / 'benchmark.json').read_text())
    subjects = [each['subject'] for each in numbers['comparisons']]
    assert subjects == ['feed', 'feed', 'feed', 'step', 'loss', 'average', 'logging', 'logging']
    for each in numbers['comparisons']:
        assert each['title'] in shown and each['rounds'] == 2
        sides = [result['side'] for result in each['results']]
        assert STOCK in sides and OURS in sides
        for result in each['results']:
            assert result['time']['median'] > 0
    assert numbers['machine']['threads'] == 1
    pixels = imread(out / 'bars.png')[..., :3]
    assert (pixels < 0.9).any(-1).mean() > 0.01  # not a white page


def test_all_lines_of_a_markdown_table_have_the_same_number_of_cells(written):
    lines = (written[0] / 'tables.md').read_text().splitlines()
    assert lines[0].startswith('`python tools/benchmark.py all')
    assert '### Step of wrn_40_2_wrn_16_2_cifar100' in lines
    width = None
    for line in lines:
        cells = line.count('|')
        assert not cells or width in (None, cells), line
        width = cells or None


def test_an_error_is_one_line(tmp_path):
    command = ['-m', 'benchmarks', 'step', '--pair', 'nothing', '--quick', '--out', tmp_path]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith('error: there is no config')
    assert done.stderr.count('\n') == 1


def test_settings_need_a_round():
    with pytest.raises(ValueError, match='rounds must be at least 1, got 0'):
        settings(rounds=0)


class FakeRuns:
    """Runs of 10 s plus 2 s per epoch plus 3 s per stored view; wall time is double."""

    def time(self, name, epochs, views):
        cpu = 10 + 2 * epochs + 3 * min(views, epochs)
        return cpu, 2 * cpu


@pytest.mark.parametrize('name, view', [('ours, live', 0), (whole_run._STORED, 3)])
def test_cost_of_a_whole_run_is_extrapolated_from_its_parts(name, view):
    cpu, wall = whole_run.Parts(), whole_run.Parts()
    for _ in range(2):
        whole_run._measure(FakeRuns(), name, cpu, wall)
    assert cpu == whole_run.Parts([10, 10], [2, 2], [view, view])
    assert wall == whole_run.Parts([20, 20], [4, 4], [2 * view, 2 * view])
    assert cpu.total(5) == [20 + 5 * view] * 2
    assert cpu.total(100) == [210 + whole_run.VIEWS * view] * 2
    # with ten times the images, and with three runs on one store
    assert cpu.total(100, scale=10) == [10 + 10 * (200 + whole_run.VIEWS * view)] * 2
    assert cpu.total(100, runs=3) == [3 * 210 + whole_run.VIEWS * view] * 2


def test_a_table_pays_for_its_store_once():
    parts = {name: whole_run.Parts([10], [2], [0]) for name in whole_run._CASES}
    parts['student alone'] = whole_run.Parts([10], [1], [0])
    parts[whole_run._STORED] = whole_run.Parts([10], [1], [1])
    table = whole_run._compare_tables('some pair', parts, parts, scale=1.0)
    live, stored = 3 * 40 + 18 * 70, 3 * 40 + 18 * 40 + whole_run.VIEWS
    assert [result.time.median for result in table.results] == [live, stored]
    assert table.results[1].speedups[STOCK].median == live / stored


def test_runs_too_short_to_be_measured_are_an_error():
    class Noise:
        def time(self, name, epochs, views):
            return 10 - epochs, 10 - epochs

    with pytest.raises(RuntimeError, match='increase --images'):
        whole_run._measure(Noise(), 'stock', whole_run.Parts(), whole_run.Parts())


@pytest.mark.parametrize(
    'pair, classes', [('wrn_40_2_wrn_16_2_cifar10', 10), ('quickstart/prkd_tinyimagenet20', 20)]
)
def test_stock_run_uses_nothing_of_ours(pair, classes, tmp_path):
    runs = whole_run._Runs(pair, tmp_path, images=classes)
    cfg = runs._load('kd')
    runs._make_stock(cfg)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    assert type(model) is SingleTeacherDistill
    assert type(model.data_preprocessor) is ClsDataPreprocessor
    text = cfg.dump()
    for ours in ('PackedImages', 'whole_batch', 'TailAverage', 'Lean', 'EpochSeed', 'TeacherCheck'):
        assert ours not in text
    images = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(images) == classes and images[0]['inputs'].shape == (3, 32, 32)


def test_accuracy_is_listed_by_the_number_of_views(tmp_path):
    def row(*accuracies):
        runs = [SimpleNamespace(seed=i, averaged=a, last=0.0) for i, a in enumerate(accuracies)]
        return Row('KD', 'kd', runs)

    rows = {'1': [row(50.0, 52.0)], 'live': [row(60.0, 60.0)]}
    table = views.table(rows)
    assert table.header == ['views', 'KD']
    assert [cells[0] for cells in table.rows] == ['1', 'live']
    assert table.rows[0][1].startswith('51.00') and table.rows[1][1].startswith('60.00')
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
