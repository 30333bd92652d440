"""Results of a measurement: times by case, speed-ups, and targets."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Optional

import torch

from .timing import OPPONENTS, OURS, Case, Clock, Samples, Summary, measure, speedup


class UnequalError(ValueError):
    """Two cases do not compute the same thing, so their times are not comparable."""


@dataclass
class Settings:
    """Settings of the measurements.

    Args:
        device: Device of the nets.
        rounds: Maximum number of rounds.
        seconds: Time after which no new round of a comparison starts (but
            three rounds are always run).
        console: ``rich`` console that shows progress, or None.
    """

    device: torch.device
    rounds: int = 7
    seconds: float = 45.0
    console: Optional[object] = None

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f'rounds must be at least 1, got {self.rounds}')
        self.clock = Clock(self.device)
        self.clock_name = 'CPU' if self.device.type == 'cpu' else 'wall'

    def measure(self, title: str, cases: Sequence[Case]) -> dict[str, Samples]:
        """Time the cases alternately, with a progress bar."""
        from rich.console import Console
        from rich.progress import Progress

        console = self.console or Console(quiet=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task(title, total=self.rounds)

            def advance(done: int) -> None:
                progress.update(bar, completed=done)

            return measure(cases, self.rounds, self.seconds, self.clock, advance)


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

    @property
    def reached(self) -> bool:
        if self.at_least is not None:
            return self.value >= self.at_least
        return self.value <= self.at_most


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
        batch: Images per unit; 0 if there are none.
        lower_bound: Seconds per unit at the machine's peak throughput.
        lower_bound_text: Explanation of the lower bound.
        notes: Remarks for the reader.
        targets: Targets for the results.
    """

    subject: str
    title: str
    unit: str
    clock: str
    rounds: int
    results: list[Result]
    batch: int = 0
    lower_bound: Optional[float] = None
    lower_bound_text: str = ''
    notes: list[str] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)

    def __getitem__(self, name: str) -> Result:
        return next(r for r in self.results if r.name == name)

    def opponents(self) -> list[str]:
        """List the opposing sides of this comparison."""
        sides = {result.side for result in self.results}
        return [side for side in OPPONENTS if side in sides]

    def expect_speedup(self, name: str, over: str, at_least: float) -> None:
        """Add a target for the speed-up of a case over an opposing side."""
        self.targets.append(
            Target(
                f'{self.title}: {name}, speed-up over {over}',
                self[name].speedups[over].median,
                at_least=at_least,
            )
        )

    def as_dict(self) -> dict:
        """Convert all fields, for JSON."""
        out = asdict(self)
        for target, plain in zip(self.targets, out['targets']):
            plain['reached'] = target.reached
        return out


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
    clock = clock or settings.clock_name
    samples = settings.measure(title, cases)
    times = {name: getattr(sample, clock.lower()) for name, sample in samples.items()}
    summaries = {name: Summary.of(values) for name, values in times.items()}
    fastest = {}
    for side in OPPONENTS:
        names = [case.name for case in cases if case.side == side]
        if names:
            fastest[side] = min(names, key=lambda name: summaries[name].median)
    results = []
    for case in cases:
        result = Result(
            case.name, case.side, summaries[case.name], Summary.of(samples[case.name].wall)
        )
        if case.side == OURS:
            for side, name in fastest.items():
                result.speedups[side] = speedup(times[case.name], times[name])
        results.append(result)
    return Comparison(subject, title, unit, clock, len(times[cases[0].name]), results, **kwargs)
