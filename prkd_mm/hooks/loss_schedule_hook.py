import math
from numbers import Real
from typing import Optional

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from ..evaluation import unwrap
from ..visualization import plot_schedules
from .progress import current_epoch, is_iter_based, num_epochs
from .schedules import SHAPES

Key = tuple[str, str]  # a loss's name in `distill_losses`, its attribute


@HOOKS.register_module()
class LossScheduleHook(Hook):
    r"""Drive numeric attributes of distillation losses along the run.

    Each schedule is a function of the progress ``r`` alone
    (:mod:`prkd_mm.hooks.schedules`), so a resumed run needs no state::

        by_epoch=True:   r = (epoch − begin) / (end − begin)  before an epoch
        by_epoch=False:  r = (iter − begin) / (end − begin)   each iteration

    with 0-based counters and ``r`` kept in [0, 1]; by default the window is
    the run, so the first epoch has r = 0 and the last (E − 1)/E, the formula
    of "Progressively Relaxed Knowledge Distillation" (IJCNN 2024). Any loss
    of a distiller can be driven, MMRazor's own too.

    Logged as ``train/<loss>.<attr>``; what a loss offers in a dict ``terms``
    (for ``PRKDLoss`` the unweighted KL and Cor) as ``train/<loss>.<term>``.
    Before the first batch ``schedule.png`` is drawn into the work dir.

    Args:
        schedules (list[dict]): Each with ``loss`` (its name in
            ``distill_losses``), ``attr``, ``start``, ``end`` and optionally
            ``shape``: 'linear' (default), 'cosine', 'step' (in the middle) or
            'constant' (``end`` is then not needed).
        by_epoch (bool): Move with the epochs, else with the iterations.
            Defaults to True.
        begin (float): Epoch (iteration) up to which ``r`` is 0. Defaults
            to 0.
        end (float, optional): Epoch (iteration) from which ``r`` is 1.
            Defaults to None: the length of the run.

    Raises:
        TypeError, ValueError: A schedule is malformed; at construction.
        ValueError: No such loss or attribute, a value the loss refuses, or a
            window outside the run; before the first batch.

    Examples:
        >>> # PRKD over a PRKDLoss that the distiller knows as loss_prkd
        >>> custom_hooks = [dict(type='LossScheduleHook', schedules=[
        ...     dict(loss='loss_prkd', attr='tau', start=4., end=1.),
        ...     dict(loss='loss_prkd', attr='kl_weight', start=1., end=0.),
        ...     dict(loss='loss_prkd', attr='cor_weight', start=0., end=1.)])]
    """

    priority = 'HIGHEST'  # before RuntimeInfoHook, which logs the outputs

    def __init__(
        self,
        schedules: list[dict],
        by_epoch: bool = True,
        begin: float = 0,
        end: Optional[float] = None,
    ) -> None:
        if not schedules:
            raise ValueError(
                'LossScheduleHook: schedules is empty; give at '
                'least one dict(loss=, attr=, start=, end=)'
            )
        self.schedules: dict[Key, dict] = {}
        for schedule in schedules:
            key, values = self._parse(**schedule)
            if key in self.schedules:
                raise ValueError(f'LossScheduleHook: two schedules for {".".join(key)}; keep one')
            self.schedules[key] = values
        self.by_epoch = by_epoch
        self.begin = begin
        self.end = end

    @staticmethod
    def _parse(
        loss: str, attr: str, start: float, end: Optional[float] = None, shape: str = 'linear'
    ) -> tuple[Key, dict]:
        name = f'LossScheduleHook: the schedule of {loss}.{attr}'
        if shape not in SHAPES:
            raise ValueError(f'{name} has shape {shape!r}; choose one of {sorted(SHAPES)}')
        if shape == 'constant' and end is None:
            end = start
        for value in (start, end):
            if not isinstance(value, Real) or isinstance(value, bool):
                raise TypeError(
                    f'{name} needs numbers for start and end, got start={start!r}, end={end!r}'
                )
            if not math.isfinite(value):
                raise ValueError(f'{name} reaches {value!r}; values must be finite')
        return (loss, attr), dict(start=start, end=end, shape=SHAPES[shape])

    def values_at(self, progress: float) -> dict[Key, float]:
        """The value of every scheduled attribute at ``progress`` in [0, 1]."""
        return {
            key: schedule['shape'](progress, schedule['start'], schedule['end'])
            for key, schedule in self.schedules.items()
        }

    def progress_at(self, position: float) -> float:
        """``r`` at a 0-based epoch (iteration), kept in [0, 1]."""
        progress = (position - self.begin) / (self.window_end - self.begin)
        return min(max(progress, 0.0), 1.0)

    def before_train(self, runner: Runner) -> None:
        length = num_epochs(runner) if self.by_epoch else runner.max_iters
        self.window_end = length if self.end is None else self.end
        if not 0 <= self.begin < self.window_end <= length:
            raise ValueError(
                f'LossScheduleHook: begin={self.begin} and end={self.end} '
                'must satisfy 0 <= begin < end <= length of the run, which is '
                f'{length:g} {"epochs" if self.by_epoch else "iterations"}'
            )
        self.losses = self._find_losses(runner)
        self._check_values()
        for loss, attr in self.schedules:
            self._log_without_smoothing(runner, f'{loss}.{attr}')
        self._current = None
        hooks = [h for h in runner.hooks if isinstance(h, LossScheduleHook)]
        if is_main_process() and self is hooks[-1]:  # all are ready
            self._plot(hooks, runner)

    def before_train_epoch(self, runner: Runner) -> None:
        self._set(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        if is_iter_based(runner) or not self.by_epoch:
            self._set(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        if outputs is not None:
            for name, loss in self.losses.items():
                for term, value in getattr(loss, 'terms', {}).items():
                    outputs[f'{name}.{term}'] = value

    def _set(self, runner: Runner) -> None:
        position = current_epoch(runner) if self.by_epoch else runner.iter
        values = self.values_at(self.progress_at(position))
        if values == self._current:
            return
        self._current = values
        for (loss, attr), value in values.items():
            setattr(self.losses[loss], attr, value)
            runner.message_hub.update_scalar(f'train/{loss}.{attr}', value)

    def _find_losses(self, runner: Runner) -> dict[str, nn.Module]:
        distiller = getattr(unwrap(runner.model), 'distiller', None)
        losses = dict(getattr(distiller, 'distill_losses', {}).items())
        for name, attr in self.schedules:
            if name not in losses:
                raise ValueError(
                    f'LossScheduleHook: the distiller has no loss {name!r}; '
                    f'it has {sorted(losses) or "none"}. Correct `loss` in '
                    'the schedule or add it to `distill_losses`'
                )
            numbers = _numeric_attributes(losses[name])
            if attr not in numbers:
                raise ValueError(
                    f'LossScheduleHook: {name} '
                    f'({type(losses[name]).__name__}) has no numeric '
                    f'attribute {attr!r}; it has {numbers}'
                )
        return {name: losses[name] for name, _ in self.schedules}

    def _check_values(self) -> None:
        """Let the losses refuse what they do not take, before the run."""
        for progress in (1.0, 0.0):
            for (loss, attr), value in self.values_at(progress).items():
                try:
                    setattr(self.losses[loss], attr, value)
                    if attr == 'tau' and value <= 0:  # MMRazor's ask nothing
                        raise ValueError('a temperature must be above 0')
                except (TypeError, ValueError) as error:
                    raise ValueError(
                        f'LossScheduleHook: the schedule of {loss}.{attr} '
                        f'reaches {value!r}: {error}'
                    ) from error

    @staticmethod
    def _plot(hooks: list['LossScheduleHook'], runner: Runner) -> None:
        epochs = num_epochs(runner)
        stepwise = all(hook.by_epoch for hook in hooks)
        count = min(math.ceil(epochs) if stepwise else 500, 1000)
        positions = [i * epochs / count for i in range(count + 1)]
        curves = {}
        for hook in hooks:
            # the last value holds to the end
            at = [
                math.floor(x) if hook.by_epoch else x * runner.max_iters / epochs
                for x in positions[:-1]
            ]
            values = [hook.values_at(hook.progress_at(p)) for p in at]
            for key in hook.schedules:
                curves['.'.join(key)] = [v[key] for v in values + values[-1:]]
        plot_schedules(positions, curves, f'{runner.work_dir}/schedule.png')

    @staticmethod
    def _log_without_smoothing(runner: Runner, key: str) -> None:
        # LogProcessor averages every key with "loss" in it over its window
        # (mmengine/runner/log_processor.py), and a loss's name must have it.
        custom = runner.log_processor.custom_cfg
        if all(cfg['data_src'] != key for cfg in custom):
            custom.append(dict(data_src=key, method_name='current'))


def _numeric_attributes(loss: nn.Module) -> list[str]:
    return sorted(
        name
        for name in dir(loss)
        if not name.startswith('_')
        and isinstance(getattr(loss, name, None), Real)
        and not isinstance(getattr(loss, name), bool)
    )
