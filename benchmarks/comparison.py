"""What came of measuring: numbers by case, ratios, bars to be reached."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Optional

import torch

from .timing import OPPONENTS, OURS, Case, Clock, Samples, Summary, measure, speedup


class UnequalError(ValueError):
    """Two cases do not compute the same, so their times say nothing."""


@dataclass
class Settings:
    """How to measure.

    Args:
        device (torch.device): Where the nets are.
        rounds (int): At most so many rounds. Defaults to 7.
        seconds (float): Begin no further round of a comparison after so long
            (but do three). Defaults to 45.
        console (rich.console.Console, optional): Where to show progress.
            Defaults to None: nowhere.
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

    def say(self, text: str) -> None:
        """Show a line."""
        if self.console is not None:
            self.console.print(text, highlight=False)

    def measure(self, title: str, cases: Sequence[Case]) -> dict[str, Samples]:
        """Let the cases take turns, and show how far they are."""
        from rich.console import Console
        from rich.progress import Progress

        console = self.console or Console(quiet=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task(title, total=self.rounds)
            return measure(
                cases,
                self.rounds,
                self.seconds,
                self.clock,
                lambda done: progress.update(bar, completed=done),
            )


@dataclass
class Bar:
    """A number that the project promises.

    Args:
        text (str): Of what it is.
        value (float): The number measured.
        at_least (float, optional): Defaults to None: ``at_most`` counts.
        at_most (float, optional): Defaults to None.
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
    """A case, measured. Times are seconds a unit.

    ``speedups`` are over the cheapest case of each opposing side, by its name.
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
    """Cases that did the same.

    Args:
        subject (str): 'feed', 'step' ...
        title (str): What was compared.
        unit (str): What times are given for: 'image', 'step' ...
        clock (str): 'CPU' time or 'wall' time.
        rounds (int): How many there were.
        results (list[Result]): One a case.
        batch (int): Images in a unit, 0 if there are none. Defaults to 0.
        floor (float, optional): Seconds a unit takes at the machine's peak.
        floor_text (str): What is counted in it.
        notes (list[str]): What a reader has to know.
        bars (list[Bar]): What was promised.
    """

    subject: str
    title: str
    unit: str
    clock: str
    rounds: int
    results: list[Result]
    batch: int = 0
    floor: Optional[float] = None
    floor_text: str = ''
    notes: list[str] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)

    def __getitem__(self, name: str) -> Result:
        return next(r for r in self.results if r.name == name)

    def opponents(self) -> list[str]:
        """The sides that ours is compared with, as far as they are there."""
        sides = {result.side for result in self.results}
        return [side for side in OPPONENTS if side in sides]

    def expect_speedup(self, name: str, over: str, at_least: float) -> None:
        """Promise how much faster a case is than an opposing side."""
        self.bars.append(
            Bar(
                f'{self.title}: {name}, speed-up over {over}',
                self[name].speedups[over].median,
                at_least=at_least,
            )
        )

    def as_dict(self) -> dict:
        """All of it, for JSON."""
        out = asdict(self)
        for bar, plain in zip(self.bars, out['bars']):
            plain['reached'] = bar.reached
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
    """Measure the cases and put their numbers together.

    Args:
        settings (Settings): How.
        subject, title, unit (str): As of :class:`Comparison`.
        cases (Sequence[Case]): Warm, and checked to be equal.
        clock (str, optional): 'CPU' or 'wall'. Defaults to None: that which
            tells what the device does.
        **kwargs: Others of :class:`Comparison`.
    """
    clock = clock or settings.clock_name
    samples = settings.measure(title, cases)
    times = {name: getattr(sample, clock.lower()) for name, sample in samples.items()}
    medians = {name: Summary.of(values) for name, values in times.items()}
    best = {}
    for side in OPPONENTS:
        names = [case.name for case in cases if case.side == side]
        if names:
            best[side] = min(names, key=lambda name: medians[name].median)
    results = [
        Result(
            case.name,
            case.side,
            medians[case.name],
            Summary.of(samples[case.name].wall),
            {
                side: speedup(times[case.name], times[name])
                for side, name in best.items()
                if case.side == OURS
            },
        )
        for case in cases
    ]
    return Comparison(subject, title, unit, clock, len(times[cases[0].name]), results, **kwargs)
