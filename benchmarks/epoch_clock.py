"""A hook that measures the epochs of a run; it imports nothing of this project."""

import json
import time
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class EpochClock(Hook):
    """Write the CPU and wall seconds at the beginning of each epoch to a JSON file.

    The CPU time is that of this process only, without the workers of a data loader.
    """

    priority = 'HIGHEST'

    def __init__(self, path: str) -> None:
        self.path, self.marks = Path(path), []

    def before_train_epoch(self, runner: Runner) -> None:
        self.marks.append((time.process_time(), time.perf_counter()))
        self.path.write_text(json.dumps(self.marks))
