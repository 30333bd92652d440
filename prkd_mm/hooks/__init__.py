from ..randomness import seed_worker_by_epoch
from .epoch_seed_hook import EpochSeedHook
from .fill_store_hook import FillStoreHook
from .lean_runtime_info_hook import LeanRuntimeInfoHook
from .loss_schedule_hook import LossScheduleHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .speed_hooks import ChannelsLastHook, CompileHook
from .tail_average_hook import TailAverageHook
from .teacher_check_hook import TeacherCheckHook

__all__ = [
    'ChannelsLastHook',
    'CompileHook',
    'EpochSeedHook',
    'FillStoreHook',
    'LeanRuntimeInfoHook',
    'LossScheduleHook',
    'SafeCheckpointHook',
    'TailAverageHook',
    'TeacherCheckHook',
    'seed_worker_by_epoch',
]
