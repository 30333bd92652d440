"""Let cases take turns, A B B A, and say what one costs of another."""

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Callable

import torch
from torch.profiler import ProfilerActivity, profile

STOCK, TUNED, ALONE, OURS = 'stock', 'tuned stock', 'student alone', 'ours'
OPPONENTS = (STOCK, TUNED, ALONE)
MIN_ROUNDS = 3


@dataclass(frozen=True)
class Summary:
    """Median and quartiles of some measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> 'Summary':
        """Summarise at least one value."""
        low, median, high = (
            statistics.quantiles(values, n=4, method='inclusive')
            if len(values) > 1
            else [values[0]] * 3
        )
        return cls(median, low, high)


class Clock:
    """CPU time of this process and of its workers, and wall time.

    Args:
        device (torch.device): A GPU is waited for before each reading.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, workers: Sequence[int] = ()) -> tuple[float, float]:
        """Read CPU and wall time in seconds.

        Args:
            workers (Sequence[int]): Ids of living processes whose CPU time
                counts, too. (``getrusage`` would count them once they have
                ended, and persistent workers do not end.) Defaults to ().
        """
        self.wait()
        cpu = time.process_time() + sum(map(_cpu_time_of, workers))
        return cpu, time.perf_counter()

    def wait(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)

    def mark(self) -> Any:
        """A point in time within a step; on a GPU without waiting for it."""
        if self.device.type != 'cuda':
            return time.process_time()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    @staticmethod
    def between(start: Any, end: Any) -> float:
        """Seconds between two marks; after :meth:`wait`."""
        if isinstance(start, float):
            return end - start
        return start.elapsed_time(end) / 1000


def _cpu_time_of(pid: int) -> float:
    # clock_getcpuclockid(3) of Linux, to the nanosecond
    return time.clock_gettime((~pid << 3) | 2)


def check_workers_can_be_timed() -> None:
    """See that the CPU time of another process can be read.

    Raises:
        OSError: It cannot, on this system.
    """
    try:
        _cpu_time_of(os.getppid())
    except (OSError, AttributeError) as error:
        raise OSError(
            'the CPU time of data loader workers is read from '
            'Linux clocks, which are not there; measure the feed on '
            'Linux'
        ) from error


@dataclass
class Case:
    """One of the things that are compared.

    Args:
        name (str): What tables call it.
        side (str): ``STOCK``, ``TUNED``, ``ALONE`` or ``OURS``.
        run (Callable): What to measure.
        units (float): How many units (images, steps ...) a call does.
            Defaults to 1.
        workers (Callable): The ids of its worker processes. Defaults to none.
    """

    name: str
    side: str
    run: Callable[[], Any]
    units: float = 1
    workers: Callable[[], Sequence[int]] = tuple


@dataclass
class Samples:
    """Seconds a unit, one for each round."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


def measure(
    cases: Sequence[Case],
    rounds: int,
    seconds: float,
    clock: Callable,
    on_round: Callable[[int], None] = lambda done: None,
) -> dict[str, Samples]:
    """Time the cases in turn, one call each a round.

    Args:
        cases (Sequence[Case]): All of them warm.
        rounds (int): At most so many.
        seconds (float): Begin no round after so long, but do three in any
            case (or ``rounds``, if fewer).
        clock (Callable): As :class:`Clock`.
        on_round (Callable): Told how many are done. Defaults to nobody.

    Returns:
        dict: :class:`Samples` by name of the case.
    """
    samples = {case.name: Samples() for case in cases}
    began = clock()[1]
    for done in range(1, rounds + 1):
        # to and fro: what a case leaves in caches and heap, all come after
        for case in cases if done % 2 else reversed(cases):
            cpu, wall = clock(case.workers())
            case.run()
            end_cpu, end_wall = clock(case.workers())
            samples[case.name].cpu.append((end_cpu - cpu) / case.units)
            samples[case.name].wall.append((end_wall - wall) / case.units)
        on_round(done)
        if done >= MIN_ROUNDS and clock()[1] - began > seconds:
            break
    return samples


def speedup(ours: Sequence[float], other: Sequence[float]) -> Summary:
    """How often ``ours`` fits into ``other``: by round, then the median."""
    return Summary.of([b / a for a, b in zip(ours, other)])


def peak_memory(run: Callable[[], Any], device: torch.device) -> int:
    """Bytes of tensors that a call holds at most, beyond those before it."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with (
        _silent_stderr(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler,
    ):
        run()
    held = peak = 0
    for event in sorted(
        profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()
    ):
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return peak


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Hide what C++ writes: the profiler tells of each start and free."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
