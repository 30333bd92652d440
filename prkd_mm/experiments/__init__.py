from .job import Job, TrainingFailed
from .plan import plan
from .pool import run_all
from .results import rows_of

__all__ = ['Job', 'TrainingFailed', 'plan', 'rows_of', 'run_all']
