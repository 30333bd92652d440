"""Means with their errors: the standard deviation, or the standard error of the mean."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A mean and its error, which is NaN if there is only one value.

    ``f'{estimate:.2f}'`` is ``'1.50 ± 0.71'``, or only the mean if the error is NaN.
    """

    mean: float
    error: float

    def __format__(self, spec: str) -> str:
        mean = format(self.mean, spec)
        if math.isnan(self.error):
            return mean
        return f'{mean} ± {format(self.error, spec.lstrip("+"))}'


def mean_and_deviation(values: Sequence[float]) -> Estimate:
    """Mean and standard deviation (n − 1): how much single values differ."""
    x = np.asarray(values, float)
    mean = float(x.mean()) if len(x) else math.nan
    deviation = float(x.std(ddof=1)) if len(x) > 1 else math.nan
    return Estimate(mean, deviation)


def mean_and_standard_error(values: Sequence[float]) -> Estimate:
    """Mean and its standard error, deviation / √n: how precisely the mean is known."""
    mean, deviation = mean_and_deviation(values)
    return Estimate(mean, deviation / max(len(values), 1) ** 0.5)
