import math
from itertools import islice
from typing import Optional

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.logging import HistoryBuffer
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

_UNLIMITED = HistoryBuffer().max_length  # a million


@HOOKS.register_module()
class LeanRuntimeInfoHook(RuntimeInfoHook):
    """MMEngine's ``RuntimeInfoHook`` with a constant cost per iteration.

    MMEngine's hook copies every loss from the device in every iteration, with one synchronization
    per loss, into histories that are copied in full whenever a value is added (13 µs at first, 2 ms
    after 300,000 iterations). With this hook,

    - the outputs of a training step stay on the device until the ``LoggerHook`` logs, an epoch ends
      or a checkpoint is saved; then all values that a log line needs are copied with one
      synchronization;
    - a history keeps only as many values as the window of the ``LogProcessor``; those in its
      ``custom_cfg`` are kept in full, unless the method is 'current'.

    The log lines and the scalars are the same. A hook that reads a loss from the message hub
    between two log lines gets an old value; it should read ``outputs`` instead, which are
    unchanged. On a GPU, the ``time`` of a single iteration does not include waiting for the device.
    The mean over a log interval does, and is exact with
    ``log_processor=dict(window_size=<interval of the LoggerHook>)``.

    A loss that is not finite stops the run when it is copied: within one log interval, and before a
    checkpoint is saved.

    Raises:
        FloatingPointError: If a loss is not finite. The message names the terms and the iteration.
        ValueError: Before the run, if there is another ``RuntimeInfoHook``, which this one must
            replace; or if the training set does not fill one batch.

    Examples:
        >>> default_hooks = dict(
        ...     runtime_info=dict(type='LeanRuntimeInfoHook'))
    """

    def __init__(self) -> None:
        self._pending: dict[str, list] = {}  # since the last sync

    def before_run(self, runner: Runner) -> None:
        if sum(isinstance(h, RuntimeInfoHook) for h in runner.hooks) > 1:
            raise ValueError(
                'LeanRuntimeInfoHook: the run has another RuntimeInfoHook, so everything would be '
                'logged twice; replace it with this one: default_hooks=dict(runtime_info=dict(type='
                "'LeanRuntimeInfoHook'))"
            )
        super().before_run(runner)

    def before_train(self, runner: Runner) -> None:
        if not len(runner.train_dataloader):  # MMEngine would end such a run as a success
            processes = get_world_size()
            each = f' for each of {processes} processes' if processes > 1 else ''
            raise ValueError(
                f'the training set has {len(runner.train_dataloader.dataset)} images, which do not '
                f'fill one batch{each}; lower train_dataloader.batch_size'
            )
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
                value = value.detach()  # otherwise it keeps the graph in memory
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
        hub, windows, in_full = runner.message_hub, _windows(runner), _kept_in_full(runner)

        def limit(key: str) -> int:
            mode, _, name = key.partition('/')
            return _UNLIMITED if in_full & {key, name} else windows.get(mode, _UNLIMITED)

        numbers = iter(_read([value for values in self._pending.values() for value in values]))
        pending = {key: list(islice(numbers, len(v))) for key, v in self._pending.items()}
        self._pending.clear()
        _check_losses(pending, runner)
        for key, values in pending.items():
            for value in values[-limit(key) :]:
                hub.update_scalar(key, value)
        for key, history in hub.log_scalars.items():
            history.max_length = limit(key)


def _check_losses(pending: dict[str, list], runner: Runner) -> None:
    """Stop a run whose losses since the last log are not all finite."""
    losses = {key: values for key, values in pending.items() if 'loss' in key}
    wrong = [
        (i - len(values), key.partition('/')[2], values[i])
        for key, values in losses.items()
        for i in range(len(values))
        if isinstance(values[i], float) and not math.isfinite(values[i])
    ]
    if not wrong:
        return
    first = min(position for position, *_ in wrong)
    found = {name: value for position, name, value in wrong if position == first}
    terms = {name: value for name, value in found.items() if name != 'loss'} or found
    raise FloatingPointError(
        f'the run was stopped: {", ".join(f"{name} was {x}" for name, x in terms.items())} in '
        f'iteration {runner.iter + 1 + first + 1} (epoch {runner.epoch + 1}). The checkpoints in '
        f'{runner.work_dir!r} were saved before; lower the learning rate, clip the gradients '
        '(optim_wrapper.clip_grad), or check the teacher and the weights of the losses'
    )


def _read(values: list) -> list:
    """Copy tensors to numbers, with one synchronization per data type."""
    kinds: dict[tuple, list[int]] = {}
    for i, value in enumerate(values):
        if isinstance(value, Tensor):
            kinds.setdefault((value.device, value.dtype), []).append(i)
    values = list(values)
    for positions in kinds.values():
        numbers = torch.stack([values[i].reshape(()) for i in positions])
        for i, number in zip(positions, numbers.tolist()):
            values[i] = number
    return values


def _kept_in_full(runner: Runner) -> set[str]:
    """Names of the histories of which ``LogProcessor`` may read more than the last values."""
    custom = runner.log_processor.custom_cfg
    return {cfg['data_src'] for cfg in custom if cfg['method_name'] != 'current'}


def _windows(runner: Runner) -> dict[str, int]:
    """Number of values that ``LogProcessor`` reads at most, per phase."""
    windows = dict(train=runner.log_processor.window_size)
    if runner.val_loop is not None:  # the mean time of a validation epoch is logged
        windows['val'] = max(windows['train'], len(runner.val_dataloader) + 1)
    return windows
