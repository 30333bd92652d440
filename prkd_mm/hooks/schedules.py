"""Pure functions of the progress ``r`` of a run, from 0 to 1; no state.

The method's own schedule is linear, ``τ(e) = τ − (τ − τ_L)·r`` with
``r = e/E`` (Gu, Jin & Li, "Progressively Relaxed Knowledge Distillation",
IJCNN 2024); the other shapes serve comparisons.
"""

import math


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
    """``start``, whatever the progress."""
    return start


SHAPES = dict(linear=linear, cosine=cosine, step=step, constant=constant)
