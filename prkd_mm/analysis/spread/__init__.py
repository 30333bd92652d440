"""How far apart the last checkpoints are, and what averaging them gains."""

from .study import SpreadOptions, run

__all__ = ['SpreadOptions', 'run']
