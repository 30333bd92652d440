from .epoch_seed_hook import EpochSeedHook, seed_worker_by_epoch
from .loss_schedule_hook import LossScheduleHook
from .tail_average_hook import TailAverageHook
from .teacher_check_hook import TeacherCheckHook

__all__ = [
    'EpochSeedHook', 'LossScheduleHook', 'TailAverageHook', 'TeacherCheckHook',
    'seed_worker_by_epoch'
]
