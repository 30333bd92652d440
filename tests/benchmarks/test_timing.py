"""Cases are timed alternately, and their speed-ups are computed per round."""

import multiprocessing
import time

import numpy as np
import pytest
import torch

from benchmarks import timing
from benchmarks.comparison import Settings, compare, summarize
from benchmarks.timing import OURS, STOCK, TUNED, Case, Summary

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
        for name in 'ab':
            assert samples[name].tolist() == [[1, 2], [2, 4], [3, 6]]

    @pytest.mark.parametrize(
        'rounds, seconds, done', [(9, 0, 3), (9, 7.9, 4), (9, 1e9, 9), (2, 0, 2)]
    )
    def test_no_round_starts_after_the_time_limit_but_three_are_run(self, rounds, seconds, done):
        clock = FakeClock()
        timing.measure([clock.case('a', OURS, [1] * 9)], rounds, seconds, clock)
        assert clock.turns == ['a'] * done

    def test_cpu_time_of_workers_is_included(self):
        clock = FakeClock()
        spent = iter([[0], [5]])  # a worker's CPU time before and after
        case = clock.case('a', OURS, [1], workers=lambda: next(spent))
        assert timing.measure([case], 1, 0, clock)['a'].tolist() == [[6, 2]]

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
        settings = Settings(CPU, rounds=3, seconds=0.0)
        settings.clock = clock = FakeClock()
        return compare(
            settings,
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

    def test_speedup_is_computed_per_round(self):
        seconds = {'a': [1, 2, 3], 'b': [4, 2, 1]}  # the ratio of the medians would be 1
        both = {name: np.stack([values] * 2, 1) for name, values in seconds.items()}
        ratio = summarize(dict(a=OURS, b=STOCK), both)[0].speedups[STOCK]
        assert ratio.median == 1 and (ratio.low, ratio.high) == (pytest.approx(2 / 3), 2.5)
