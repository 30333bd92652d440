"""Schedules: pure functions of the progress ``r`` of a run, from 0 to 1.

The method's own schedule is linear, ``τ(e) = τ − (τ − τ_L)·r`` with ``r = e/E`` (Gu, Jin & Li,
"Progressively Relaxed Knowledge Distillation", IJCNN 2024); the other shapes are for comparisons.
"""

import math
from dataclasses import dataclass
from typing import Optional

from torch import nn

from .checks.number_checks import is_number
from .strength import has_strength


def progress(position: float, end: float, begin: float = 0) -> float:
    """``r = (position − begin) / (end − begin)``, clamped to [0, 1]; for 60 of 240 epochs, 0.25."""
    return min(max((position - begin) / (end - begin), 0.0), 1.0)


def linear(progress: float, start: float, end: float) -> float:
    """``start − (start − end)·r``."""
    return start - (start - end) * progress


def cosine(progress: float, start: float, end: float) -> float:
    """``end + (start − end)·(1 + cos πr)/2``: flat at both ends."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def step(progress: float, start: float, end: float) -> float:
    """``start`` in the first half (``r < 1/2``), ``end`` in the second."""
    return start if progress < 0.5 else end


def constant(progress: float, start: float, end: float) -> float:
    """``start``, independent of the progress."""
    return start


_LARGEST_TARGET = 1000  # of relax_to; a larger one can only be a mistake
SHAPES = dict(linear=linear, cosine=cosine, step=step, constant=constant)


@dataclass
class Schedule:
    """The schedule of one attribute of one loss.

    Raises:
        TypeError: If a value is not a number.
        ValueError: If a value is not finite, the shape is unknown, or ``relax_to`` does not fit the
            rest.

    Examples:
        >>> Schedule('loss_prkd', 'tau', start=4.0, end=1.0).at(0.5)
        2.5
    """

    loss: str  # its name in `distill_losses`
    attr: str
    start: float  # value at r = 0
    end: Optional[float] = None  # value at r = 1; solved for if `relax_to` is given
    shape: str = 'linear'  # a key of SHAPES
    relax_to: Optional[float] = None  # instead of `end`, for cor_weight: see LossScheduleHook

    def __post_init__(self) -> None:
        what = f'LossScheduleHook: the schedule of {self.name}'
        if self.shape not in SHAPES:
            raise ValueError(f'{what} has shape {self.shape!r}; choose one of {sorted(SHAPES)}')
        if self.relax_to is not None:
            self._check_relax_to(what)
        elif self.shape == 'constant' and self.end is None:
            self.end = self.start
        values = dict(start=self.start, end=self.end)
        if self.relax_to is not None:
            values = dict(start=self.start)
        if not all(is_number(value) for value in values.values()):
            got = ', '.join(f'{name}={value!r}' for name, value in values.items())
            raise TypeError(f'{what} needs numbers for {" and ".join(values)}, got {got}')
        for value in values.values():
            if not math.isfinite(value):
                raise ValueError(f'{what} reaches {value!r}; values must be finite')

    def _check_relax_to(self, what: str) -> None:
        if not is_number(self.relax_to) or not 0 < self.relax_to <= _LARGEST_TARGET:
            raise ValueError(
                f'{what} has relax_to={self.relax_to!r}; it must be a number above 0 and at most '
                f'{_LARGEST_TARGET}, the final strength of the loss as a share of its initial '
                'strength, such as 0.25'
            )
        if self.end is not None:
            raise ValueError(
                f'{what} has both end={self.end!r} and relax_to={self.relax_to!r}; relax_to '
                'determines end, so remove one of them (end=None in --cfg-options)'
            )
        if self.attr != 'cor_weight' or self.shape == 'constant':
            raise ValueError(
                f'{what} has relax_to={self.relax_to!r} and shape={self.shape!r}; relax_to belongs '
                "to the schedule of cor_weight of a PRKDLoss, with a shape other than 'constant'"
            )

    @property
    def name(self) -> str:
        """``<loss>.<attr>``."""
        return f'{self.loss}.{self.attr}'

    def check_loss(self, loss: nn.Module) -> None:
        """Set the attribute to ``start``; a ValueError explains why a loss rejects the schedule."""
        owner = f'LossScheduleHook: {self.loss} ({type(loss).__name__})'
        public = [name for name in dir(loss) if not name.startswith('_')]
        numbers = [name for name in public if is_number(getattr(loss, name, None))]
        if self.attr not in numbers:
            raise ValueError(f'{owner} has no numeric attribute {self.attr!r}; it has {numbers}')
        if self.relax_to is not None and not has_strength(loss):
            raise ValueError(f'{owner} is not a PRKDLoss, as relax_to requires; give `end`')
        # an end that is solved later is never negative
        for value in [self.start] if self.end is None else [self.at(1.0), self.at(0.0)]:
            try:
                setattr(loss, self.attr, value)
                if self.attr == 'tau' and value <= 0:  # MMRazor's losses do not validate it
                    raise ValueError('a temperature must be above 0')
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f'LossScheduleHook: the schedule of {self.name} reaches {value!r}: {error}'
                ) from error

    def at(self, progress: float) -> float:
        """Compute the value at ``progress`` in [0, 1]."""
        if self.end is None:
            raise RuntimeError(f'the end of {self.name} has not been solved from relax_to yet')
        return SHAPES[self.shape](progress, self.start, self.end)
