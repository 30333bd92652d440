from ..config import METHODS
from .comparison_report import Row, rows_of, table, write_report
from .job import Job, TrainingFailed
from .plan import plan
from .pool import run_all

__all__ = [
    'METHODS',
    'Job',
    'Row',
    'TrainingFailed',
    'plan',
    'rows_of',
    'run_all',
    'table',
    'write_report',
]
