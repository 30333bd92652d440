from .comparison import METHODS, plan, run_all, seed_suffix
from .job import Job, TrainingFailed
from .report import Row, rows_of, table, write_report

__all__ = [
    'METHODS', 'Job', 'Row', 'TrainingFailed', 'plan', 'rows_of', 'run_all',
    'seed_suffix', 'table', 'write_report'
]
