from ..config import METHODS
from .comparison_report import write_report
from .job import Job, TrainingFailed
from .plan import plan
from .pool import Pool, run_all
from .results import rows_of, table

__all__ = [
    'METHODS',
    'Job',
    'Pool',
    'TrainingFailed',
    'plan',
    'rows_of',
    'run_all',
    'table',
    'write_report',
]
