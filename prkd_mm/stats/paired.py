"""Differences between methods, paired by seed, with confidence intervals."""

import math
import statistics
from collections.abc import Collection
from dataclasses import dataclass
from typing import Optional

from scipy.stats import t as students_t

from .estimates import mean_and_deviation, mean_and_standard_error

CONFIDENCE = 0.95
_ROUNDING = 1e-5  # of percentages in single precision


@dataclass(frozen=True)
class Difference:
    """Differences ``better − worse`` of a number of two methods, seed by seed."""

    better: str
    worse: str
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def standard_error(self) -> Optional[float]:
        r"""Standard error of the mean, :math:`s / \sqrt n`; None for a single seed."""
        return mean_and_standard_error(self.values).error if len(self.values) > 1 else None

    @property
    def interval(self) -> Optional[tuple[float, float]]:
        r"""The 95 % confidence interval of the mean, by Student's t.

        :math:`\bar d \pm t_{0.975, n-1}\, s / \sqrt n` with the standard deviation :math:`s` of
        the :math:`n` differences; None for a single seed. It is also None if all differences are
        equal, as with few seeds and images, since then they do not show how much they vary.
        """
        error = self.standard_error
        largest = max(map(abs, self.values))
        if error is None or error <= _ROUNDING * max(1.0, largest):
            return None
        half = float(students_t.ppf((1 + CONFIDENCE) / 2, len(self.values) - 1)) * error
        return self.mean - half, self.mean + half

    @property
    def verdict(self) -> str:
        """Whether ``better`` is the larger one by the interval: yes, no or cannot tell."""
        low, high = self.interval or (-math.inf, math.inf)
        if low > 0:
            return 'yes'
        return 'no' if high < 0 else 'cannot tell'


def difference(
    better: str, worse: str, one: dict[int, float], other: dict[int, float]
) -> Optional[Difference]:
    """Difference of two methods over the seeds that both have; None without a common seed."""
    values = tuple(one[seed] - other[seed] for seed in sorted(one.keys() & other.keys()))
    return Difference(better, worse, values) if values else None


def mean_std(values: Collection[float], sign: str = '') -> str:
    """``mean ± standard deviation``, or only the mean of a single value."""
    if not values:
        return '–'
    return f'{mean_and_deviation(list(values)):{sign}.2f}'
