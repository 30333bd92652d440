"""What a student shares with its teacher: predictions, calibration, class correlations."""

from .study import AgreementOptions, run

__all__ = ['AgreementOptions', 'run']
