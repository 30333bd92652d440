"""Interleave cases (A B B A) and compare their times."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Optional

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

STOCK, TUNED, ALONE, OURS = 'stock', 'tuned stock', 'student alone', 'ours'
OPPONENTS = (STOCK, TUNED, ALONE)
CLOCKS = ('CPU', 'wall')  # columns of measured seconds
MIN_ROUNDS = 3


@dataclass(frozen=True)
class Summary:
    """Median and quartiles of some measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> 'Summary':
        """Summarize one or more values."""
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
        return cls(median, low, high)


class Clock:
    """CPU time of this process and its workers, and wall time.

    On a GPU, each reading waits until all kernels have finished.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, workers: Sequence[int] = ()) -> tuple[float, float]:
        """Read CPU time and wall time in seconds.

        The CPU time includes that of living processes, the ``workers``. (``getrusage`` includes a
        child only after it has ended, and persistent workers do not end.)
        """
        self.wait()
        return time.process_time() + sum(map(_cpu_time_of, workers)), time.perf_counter()

    def wait(self) -> None:
        """Wait until the device has finished its queue."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)

    def mark(self) -> Any:
        """Mark a point in time within a step, without waiting for a GPU."""
        if self.device.type != 'cuda':
            return time.process_time()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    @staticmethod
    def between(start: Any, end: Any) -> float:
        """Seconds between two marks. Call :meth:`wait` first."""
        return end - start if isinstance(start, float) else start.elapsed_time(end) / 1000


def _cpu_time_of(pid: int) -> float:
    try:
        # the clock id that clock_getcpuclockid(3) of Linux computes for a process
        return time.clock_gettime((~pid << 3) | 2)
    except AttributeError as error:
        raise OSError(
            'the CPU time of data loader workers is read from per-process clocks, which '
            'only Linux has; run this benchmark on Linux'
        ) from error


@dataclass
class Case:
    """One of the compared cases."""

    name: str
    side: str  # STOCK, TUNED, ALONE or OURS
    run: Callable[[], Any]
    units: float = 1  # images, steps, ... in one call
    workers: Callable[[], Sequence[int]] = tuple  # ids of its worker processes
    peak_bytes: Optional[int] = None


def measure(
    cases: Sequence[Case], rounds: int, seconds: float, clock: Callable
) -> dict[str, np.ndarray]:
    """Time warmed-up cases alternately, with one call of each per round.

    After some ``seconds``, no new round starts, but at least three are run. Returns, by case, an
    array (rounds, 2) of CPU and wall seconds per unit.
    """
    samples: dict[str, list] = {case.name: [] for case in cases}
    start = clock()[1]
    for done in range(1, rounds + 1):
        # alternate the order: if a case always followed the same one, it would
        # always start with the caches and the heap of that case
        for case in cases if done % 2 else reversed(cases):
            before = clock(case.workers())
            case.run()
            spent = np.subtract(clock(case.workers()), before)
            samples[case.name].append(spent / case.units)
        if done >= MIN_ROUNDS and clock()[1] - start > seconds:
            break
    return {name: np.array(rows) for name, rows in samples.items()}


def peak_memory(run: Callable[[], Any], device: torch.device) -> int:
    """Measure the peak size in bytes of the tensors that a call allocates."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    activities = [ProfilerActivity.CPU]
    with _silent_stderr(), profile(activities=activities, profile_memory=True) as profiler:
        run()
    held = peak = 0
    events = profiler.profiler.kineto_results.events()
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return peak


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Hide the output of C++ code: the profiler logs each start and stop."""
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
