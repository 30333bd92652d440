from ..config import METHODS
from .comparison import plan, run_all
from .job import Job, TrainingFailed
from .report import Row, rows_of, table, write_report

__all__ = [
    'METHODS', 'Job', 'Row', 'TrainingFailed', 'plan', 'rows_of', 'run_all',
    'table', 'write_report'
]
