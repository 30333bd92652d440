"""How strongly each loss constrains the student, and how that changes over a run."""

from .study import StrengthOptions, run

__all__ = ['StrengthOptions', 'run']
