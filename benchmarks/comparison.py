"""Results of a measurement: times by case, speed-ups, and targets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Optional

import numpy as np
import torch
from rich.console import Console

from .lower_bounds import Peaks
from .timing import CLOCKS, OPPONENTS, OURS, Case, Clock, Summary, measure


class UnequalError(ValueError):
    """Two cases do not compute the same thing, so their times are not comparable."""

    def __init__(self, difference: str) -> None:
        super().__init__(f'{difference}; their times cannot be compared')


@dataclass
class Settings:
    """Settings of the measurements."""

    device: torch.device
    rounds: int = 7  # at most
    seconds: float = 45.0  # after which no new round starts, but three are always run
    peaks: Peaks = field(default_factory=lambda: Peaks(1e11, 1e10))
    console: Console = field(default_factory=lambda: Console(quiet=True))

    def __post_init__(self) -> None:
        self.clock = Clock(self.device)
        self.on_cpu = self.device.type == 'cpu'


@dataclass
class Target:
    """A measured value, and its lower or upper limit."""

    text: str
    value: float
    at_least: Optional[float] = None
    at_most: Optional[float] = None
    reached: bool = field(init=False)

    def __post_init__(self) -> None:
        if self.at_least is not None:
            self.limit = f'at least {self.at_least:.3g}'
            self.reached = self.value >= self.at_least
        else:
            self.limit = f'at most {self.at_most:.3g}'
            self.reached = self.value <= self.at_most


@dataclass
class Result:
    """Measurements of one case, in seconds per unit."""

    name: str
    side: str
    time: Summary
    wall: Summary
    speedups: dict[str, Summary] = field(default_factory=dict)  # by baseline
    peak_bytes: Optional[int] = None
    sections: dict[str, float] = field(default_factory=dict)


@dataclass
class Comparison:
    """Measurements of several cases that compute the same thing."""

    subject: str
    title: str
    unit: str  # what one time is for: 'image', 'step', ...
    clock: str  # 'CPU' or 'wall'
    rounds: int
    results: list[Result]
    note: str
    batch: int = 0  # images per unit, if there are any
    lower_bound: Optional[float] = None  # seconds per unit at the machine's peak throughput
    lower_bound_text: str = ''
    targets: list[Target] = field(default_factory=list)

    def __getitem__(self, name: str) -> Result:
        return next(r for r in self.results if r.name == name)

    def opponents(self) -> list[str]:
        """List the baselines of this comparison."""
        sides = {result.side for result in self.results}
        return [side for side in OPPONENTS if side in sides]

    def expect_speedup(self, name: str, over: str, at_least: float) -> None:
        """Add a target for the speed-up of a case over a baseline."""
        text = f'{self.title}: {name}, speed-up over {over}'
        self.targets.append(Target(text, self[name].speedups[over].median, at_least=at_least))


def compare(
    settings: Settings, subject: str, title: str, unit: str, cases: Sequence[Case], **fields
) -> Comparison:
    """Measure cases that are warmed up and checked to be equal.

    The arguments are those of :class:`Comparison`. ``clock`` is CPU on a CPU, else wall.
    """
    clock = fields.pop('clock', 'CPU' if settings.on_cpu else 'wall')
    with settings.console.status(title):
        seconds = measure(cases, settings.rounds, settings.seconds, settings.clock)
    results = summarize({case.name: case.side for case in cases}, seconds, clock)
    for result, case in zip(results, cases):
        result.peak_bytes = case.peak_bytes
    return Comparison(subject, title, unit, clock, len(seconds[cases[0].name]), results, **fields)


def summarize(
    sides: dict[str, str], seconds: dict[str, np.ndarray], clock: str = 'CPU'
) -> list[Result]:
    """Results of some cases, with speed-ups over the fastest case of each baseline.

    The CPU and wall seconds (rounds, 2) per unit are given by case; ``clock`` selects one of them.
    """
    times = {name: rows[:, CLOCKS.index(clock)] for name, rows in seconds.items()}
    results = [
        Result(name, side, Summary.of(times[name]), Summary.of(seconds[name][:, 1]))
        for name, side in sides.items()
    ]
    for opponent in OPPONENTS:
        opposing = [result for result in results if result.side == opponent]
        if not opposing:
            continue
        fastest = times[min(opposing, key=lambda result: result.time.median).name]
        for result in results:
            if result.side == OURS:
                result.speedups[opponent] = Summary.of(fastest / times[result.name])
    return results
