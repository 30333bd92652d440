"""The loss around a trained student, and how sharp its minimum is."""

from .study import LandscapeOptions, run

__all__ = ['LandscapeOptions', 'run']
