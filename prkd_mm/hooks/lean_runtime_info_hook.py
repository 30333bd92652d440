from typing import Optional

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.logging import HistoryBuffer
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from .progress import is_iter_based

_UNLIMITED = HistoryBuffer().max_length  # a million


@HOOKS.register_module()
class LeanRuntimeInfoHook(RuntimeInfoHook):
    """MMEngine's ``RuntimeInfoHook`` at a cost that does not grow.

    That one reads every loss off the device in every iteration, each a sync
    of its own, into histories that are copied whole whenever a value is added
    (13 µs at first, 2 ms after 300,000 iterations). Here

    - what a training step returns stays on its device until the ``LoggerHook``
      logs, or an epoch ends, or a checkpoint is saved; then all that a log
      line needs is read in one sync;
    - a history keeps only as many values as the ``LogProcessor`` looks back.
      One that it needs in full stays whole: a ``custom_cfg`` whose window is
      'global' or not given, or whose method is not MMEngine's.

    The log lines and the scalars are the same. A hook of your own that reads
    a loss from the message hub between two log lines would find an old one:
    let it read ``outputs``, which is untouched. On a GPU an iteration's
    ``time`` no longer waits for the device, only the interval's does: with
    ``log_processor=dict(window_size=<interval of the LoggerHook>)`` its mean
    is exact.

    Raises:
        ValueError: It stands beside a ``RuntimeInfoHook`` instead of in its
            place; before the run.

    Examples:
        >>> default_hooks = dict(
        ...     runtime_info=dict(type='LeanRuntimeInfoHook'))
    """

    def __init__(self) -> None:
        self._pending: dict[str, list] = {}  # since the last sync

    def before_run(self, runner: Runner) -> None:
        if sum(isinstance(h, RuntimeInfoHook) for h in runner.hooks) > 1:
            raise ValueError(
                'LeanRuntimeInfoHook: the run has another RuntimeInfoHook, so '
                'everything would be logged twice; put this one in its place: '
                'default_hooks=dict(runtime_info=dict(type='
                "'LeanRuntimeInfoHook'))"
            )
        super().before_run(runner)

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        self._pending.clear()
        self._intervals = [
            hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)
        ] or [1]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: Optional[dict] = None
    ) -> None:
        for key, value in (outputs or {}).items():
            if isinstance(value, Tensor):
                value = value.detach()  # else it holds the graph
            self._pending.setdefault(f'train/{key}', []).append(value)
        if self.end_of_epoch(runner.train_dataloader, batch_idx) or any(
            self.every_n_inner_iters(batch_idx, interval) for interval in self._intervals
        ):
            self._flush(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        self._flush(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self._pending:  # an iteration-based run saves between log lines
            self._flush(runner)
            state = runner.message_hub.state_dict()
            for part in ('log_scalars', 'resumed_keys'):
                checkpoint['message_hub'][part] = state[part]

    def _flush(self, runner: Runner) -> None:
        hub, windows = runner.message_hub, _windows(runner)
        whole = _needed_in_full(runner)

        def limit(key: str) -> int:
            mode, _, name = key.partition('/')
            in_full = mode not in windows or whole & {key, name}
            return _UNLIMITED if in_full else windows[mode]

        pending = [
            (key, value) for key, values in self._pending.items() for value in values[-limit(key) :]
        ]
        self._pending.clear()
        values = _read([value for _, value in pending])
        for (key, _), value in zip(pending, values):
            hub.update_scalar(key, value)
        for key, history in hub.log_scalars.items():
            history.max_length = limit(key)


def _read(values: list) -> list:
    """The numbers in ``values``, with one sync for all tensors of a kind."""
    kinds = {}
    for i, value in enumerate(values):
        if isinstance(value, Tensor):
            kinds.setdefault((value.device, value.dtype), []).append(i)
    values = list(values)
    for positions in kinds.values():
        numbers = torch.stack([values[i].reshape(()) for i in positions])
        for i, number in zip(positions, numbers.tolist()):
            values[i] = number
    return values


def _needed_in_full(runner: Runner) -> set[str]:
    """Names whose history ``LogProcessor`` may look through from its start."""
    unbounded = (None, 'global') + ('epoch',) * is_iter_based(runner)
    return {
        cfg['data_src']
        for cfg in runner.log_processor.custom_cfg
        if cfg['method_name'] != 'current'
        and (
            cfg['method_name'] not in ('mean', 'min', 'max') or cfg.get('window_size') in unbounded
        )
    }


def _windows(runner: Runner) -> dict[str, int]:
    """How far back ``LogProcessor`` looks at most, in training and else."""
    processor = runner.log_processor
    sizes = [cfg.get('window_size') for cfg in processor.custom_cfg]
    longest = max([processor.window_size] + [size for size in sizes if isinstance(size, int)])
    windows = dict(train=longest)
    if 'epoch' in sizes:
        windows['train'] = max(longest, len(runner.train_dataloader))
    if runner.val_loop is not None:  # it logs the mean time of an epoch
        windows['val'] = max(longest, len(runner.val_dataloader) + 1)
    return windows
