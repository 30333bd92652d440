"""Results of a measurement: times by case, speed-ups, and targets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Optional

import torch
from rich.console import Console

from .lower_bounds import Peaks
from .timing import OPPONENTS, OURS, Case, Clock, Summary, measure, speedup


class UnequalError(ValueError):
    """Two cases do not compute the same thing, so their times are not comparable."""

    def __init__(self, difference: str) -> None:
        super().__init__(f'{difference}; there is nothing to compare')


@dataclass
class Settings:
    """Settings of the measurements.

    Args:
        device: Device of the nets.
        rounds: Maximum number of rounds.
        seconds: Time after which no new round of a comparison starts (but
            three rounds are always run).
        peaks: Peak throughput of the machine.
        console: Where to show progress.
    """

    device: torch.device
    rounds: int = 7
    seconds: float = 45.0
    peaks: Peaks = field(default_factory=lambda: Peaks(1e11, 1e10))
    console: Console = field(default_factory=lambda: Console(quiet=True))

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f'rounds must be at least 1, got {self.rounds}')
        self.clock = Clock(self.device)
        self.on_cpu = self.device.type == 'cpu'


@dataclass
class Target:
    """Target for a measured value.

    Args:
        text: Description of the quantity.
        value: Measured value.
        at_least: Lower limit. None means that ``at_most`` is the limit.
        at_most: Upper limit.
    """

    text: str
    value: float
    at_least: Optional[float] = None
    at_most: Optional[float] = None
    reached: bool = field(init=False)

    def __post_init__(self) -> None:
        if self.at_least is not None:
            self.reached = self.value >= self.at_least
        else:
            self.reached = self.value <= self.at_most

    @property
    def limit(self) -> str:
        """The limit in words."""
        if self.at_least is not None:
            return f'at least {self.at_least:.3g}'
        return f'at most {self.at_most:.3g}'


@dataclass
class Result:
    """Measurements of one case, in seconds per unit.

    ``speedups`` holds, by opposing side, the speed-up over its fastest case.
    """

    name: str
    side: str
    time: Summary
    wall: Summary
    speedups: dict[str, Summary] = field(default_factory=dict)
    peak_bytes: Optional[int] = None
    sections: dict[str, float] = field(default_factory=dict)


@dataclass
class Comparison:
    """Measurements of several cases that compute the same thing.

    Args:
        subject: 'feed', 'step', ...
        title: Description of what is compared.
        unit: Unit that times are given for: 'image', 'step', ...
        clock: 'CPU' time or 'wall' time.
        rounds: Number of rounds.
        results: One result per case.
        note: Remark for the reader.
        batch: Images per unit; 0 if there are none.
        lower_bound: Seconds per unit at the machine's peak throughput.
        lower_bound_text: Explanation of the lower bound.
        targets: Targets for the results.
    """

    subject: str
    title: str
    unit: str
    clock: str
    rounds: int
    results: list[Result]
    note: str
    batch: int = 0
    lower_bound: Optional[float] = None
    lower_bound_text: str = ''
    targets: list[Target] = field(default_factory=list)

    def __getitem__(self, name: str) -> Result:
        return next(r for r in self.results if r.name == name)

    def opponents(self) -> list[str]:
        """List the opposing sides of this comparison."""
        sides = {result.side for result in self.results}
        return [side for side in OPPONENTS if side in sides]

    def expect_speedup(self, name: str, over: str, at_least: float) -> None:
        """Add a target for the speed-up of a case over an opposing side."""
        text = f'{self.title}: {name}, speed-up over {over}'
        self.targets.append(Target(text, self[name].speedups[over].median, at_least=at_least))


def compare(
    settings: Settings,
    subject: str,
    title: str,
    unit: str,
    cases: Sequence[Case],
    clock: Optional[str] = None,
    **kwargs,
) -> Comparison:
    """Measure the cases and collect their results.

    Args:
        settings: Settings of the measurement.
        subject, title, unit: As in :class:`Comparison`.
        cases: Cases, warmed up and checked to be equal.
        clock: 'CPU' or 'wall'. None means CPU time on a CPU, wall time on a GPU.
        **kwargs: Further fields of :class:`Comparison`.
    """
    clock = clock or ('CPU' if settings.on_cpu else 'wall')
    with settings.console.status(title):
        samples = measure(cases, settings.rounds, settings.seconds, settings.clock)
    times = {name: getattr(sample, clock.lower()) for name, sample in samples.items()}
    walls = {name: sample.wall for name, sample in samples.items()}
    results = summarize({case.name: case.side for case in cases}, times, walls)
    rounds = len(times[cases[0].name])
    return Comparison(subject, title, unit, clock, rounds, results, **kwargs)


def summarize(
    sides: dict[str, str], times: dict[str, list[float]], walls: dict[str, list[float]]
) -> list[Result]:
    """Results of some cases, with speed-ups over the fastest case of each opposing side.

    Args:
        sides: Side of each case.
        times: Seconds per unit of each case, one value per round.
        walls: The same as wall time.
    """
    results = [
        Result(name, side, Summary.of(times[name]), Summary.of(walls[name]))
        for name, side in sides.items()
    ]
    for opponent in OPPONENTS:
        opposing = [result for result in results if result.side == opponent]
        if not opposing:
            continue
        fastest = min(opposing, key=lambda result: result.time.median).name
        for result in results:
            if result.side == OURS:
                result.speedups[opponent] = speedup(times[result.name], times[fastest])
    return results
