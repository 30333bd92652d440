from collections.abc import Mapping
from dataclasses import fields
from typing import Optional

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from ..checks.number_checks import is_number
from ..evaluation import unwrap
from ..schedules import Schedule, progress
from ..strength import StrengthMeter
from ..visualization import plot_schedules
from . import relaxation
from .progress import current_epoch, is_iter_based, iters_per_epoch, num_epochs
from .strength_log import known_losses, log_without_smoothing
from .teacher_check_hook import TeacherCheckHook

Key = tuple[str, str]  # a loss's name in `distill_losses`, its attribute
_KEYS = [field.name for field in fields(Schedule)]


@HOOKS.register_module()
class LossScheduleHook(Hook):
    r"""Change numeric attributes of distillation losses over the run.

    Each schedule is a function of the progress ``r`` alone (:mod:`prkd_mm.schedules`), so a
    resumed run needs no state::

        by_epoch=True:   r = (epoch − begin) / (end − begin)  before an epoch
        by_epoch=False:  r = (iter − begin) / (end − begin)   each iteration

    with 0-based counters and ``r`` clamped to [0, 1]. By default the window is the run, so the
    first epoch has r = 0 and the last (E − 1)/E, the formula of "Progressively Relaxed Knowledge
    Distillation" (IJCNN 2024). The hook can change any loss of a distiller, including MMRazor's.

    The values are logged as ``train/<loss>.<attr>``. If a loss has a dict ``terms`` (for
    ``PRKDLoss``, the unweighted KL and Cor), its entries are logged as ``train/<loss>.<term>``.

    With a :class:`~prkd_mm.hooks.TeacherCheckHook`, the strength of the losses
    (:mod:`prkd_mm.strength`) is computed from the teacher's logits. A log line before the first
    batch describes how it changes over the run, ``train/<loss>.strength`` logs it, and
    ``schedule.png`` in the work dir plots it.

    With ``relax_to=ρ`` in the schedule of a ``PRKDLoss``'s ``cor_weight``, ``end`` is solved from
    these logits before the first batch, so that the whole loss has ρ times its initial strength in
    the last epoch (iteration) of the run: ρ = 0.25 relaxes to a quarter for any teacher and number
    of classes, and ρ > 1 (at most 1000) tightens. If a run has so few epochs that KL alone exceeds
    the target in the last one, the target is reached only at r = 1, and a warning names the share
    that the run reaches. The solved value is stored in the checkpoints, so a resumed run does not
    solve for it again.

    Args:
        schedules (list[dict]): One dict per schedule, with ``loss`` (its name in
            ``distill_losses``), ``attr``, ``start``, ``end`` (or ``relax_to``) and optionally
            ``shape``: 'linear' (default), 'cosine', 'step' (in the middle) or 'constant' (which
            needs no ``end``).
        by_epoch (bool): Whether the schedules follow the epochs; otherwise they follow the
            iterations. Defaults to True.
        begin (float): Epoch (iteration) up to which ``r`` is 0. Defaults to 0.
        end (float, optional): Epoch (iteration) from which ``r`` is 1. Defaults to None: the length
            of the run.

    Raises:
        TypeError: If a schedule has an unknown key or lacks a number.
        ValueError: If a schedule is malformed, at construction. Before the first batch: if there is
            no such loss or attribute, the loss rejects a value, the window lies outside the run, or
            ``relax_to`` cannot be solved.

    Examples:
        >>> # PRKD, for a PRKDLoss named loss_prkd in the distiller
        >>> custom_hooks = [dict(type='TeacherCheckHook'),
        ...     dict(type='LossScheduleHook', schedules=[
        ...         dict(loss='loss_prkd', attr='tau', start=4., end=1.),
        ...         dict(loss='loss_prkd', attr='kl_weight', start=1., end=0.),
        ...         dict(loss='loss_prkd', attr='cor_weight', start=0., end=1.)])]
        >>> # the last schedule, to relax to a quarter of the initial strength
        >>> dict(loss='loss_prkd', attr='cor_weight', start=0., relax_to=0.25)
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
                'LossScheduleHook: schedules is empty; give at least one '
                'dict(loss=, attr=, start=, end=)'
            )
        if not isinstance(schedules, (list, tuple)):
            raise ValueError(f'LossScheduleHook: schedules must be a list, got {schedules!r}')
        if not isinstance(by_epoch, bool):
            raise ValueError(f'LossScheduleHook: by_epoch must be True or False, got {by_epoch!r}')
        for name, value in dict(begin=begin, end=0 if end is None else end).items():
            if not is_number(value):
                raise ValueError(f'LossScheduleHook: {name} must be a number, got {value!r}')
        self.schedules: dict[Key, Schedule] = {}
        required = {'loss', 'attr', 'start'}
        for config in schedules:
            if not isinstance(config, dict) or not required <= set(config) <= set(_KEYS):
                raise ValueError(
                    f'LossScheduleHook: a schedule has the keys {", ".join(_KEYS)}, of which loss, '
                    f'attr and start are required; got {config!r}'
                )
            schedule = Schedule(**config)
            key = schedule.loss, schedule.attr
            if key in self.schedules:
                raise ValueError(f'LossScheduleHook: two schedules for {schedule.name}; keep one')
            self.schedules[key] = schedule
        self.by_epoch = by_epoch
        self.begin = begin
        self.end = end
        self.window_end = end
        self.epoch_length = 1
        self.losses: dict[str, nn.Module] = {}
        self._current: Optional[dict[Key, float]] = None  # before the first epoch

    def values_at(self, progress: float) -> dict[Key, float]:
        """Compute the value of every scheduled attribute at ``progress`` in [0, 1]."""
        return {key: schedule.at(progress) for key, schedule in self.schedules.items()}

    def progress_at(self, position: float) -> float:
        """``r`` at a 0-based epoch (iteration), clamped to [0, 1]."""
        return progress(position, self.window_end, self.begin)

    def progress_at_iteration(self, iteration: int) -> float:
        """``r`` at a 0-based iteration of the run that is about to start."""
        return self.progress_at(iteration // self.epoch_length if self.by_epoch else iteration)

    def set_length(self, length: float) -> None:
        """Fit the window to the length of a run in epochs (iterations), which must contain it."""
        self.window_end = length if self.end is None else self.end
        if not 0 <= self.begin < self.window_end <= length:
            raise ValueError(
                f'LossScheduleHook: begin={self.begin} and end={self.end} '
                'must satisfy 0 <= begin < end <= length of the run, which is '
                f'{length:g} {"epochs" if self.by_epoch else "iterations"}'
            )

    def check_losses(self, losses: Mapping[str, Optional[nn.Module]]) -> None:
        """Set the losses of a distiller, by their names, to the start of their schedules.

        A loss that is None has not been built; only its name is checked.

        Raises:
            ValueError: If there is no such loss or attribute, or the loss rejects a value.
        """
        for schedule in self.schedules.values():
            if schedule.loss not in losses:
                raise ValueError(
                    f'LossScheduleHook: the distiller has no loss {schedule.loss!r}; it has '
                    f'{sorted(losses) or "none"}. Correct `loss` in the schedule or add it to '
                    '`distill_losses`'
                )
            if (loss := losses[schedule.loss]) is not None:
                schedule.check_loss(loss)

    def before_train(self, runner: Runner) -> None:
        self.set_length(num_epochs(runner) if self.by_epoch else runner.max_iters)
        self.epoch_length = iters_per_epoch(runner)
        self._restore_solved(runner)
        self._check_other_hooks(runner)
        self.losses = self._find_losses(runner)
        for schedule in self.schedules.values():
            log_without_smoothing(runner, schedule.name)
        for loss in self.losses.values():
            loss.scheduled = True
        self._current = None

    def before_train_epoch(self, runner: Runner) -> None:
        if self._current is None:  # before_train of all hooks, with the teacher check, is done
            self._start(runner)
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

    def _check_other_hooks(self, runner: Runner) -> None:
        for hook in runner.hooks:
            if isinstance(hook, LossScheduleHook) and hook is not self:
                for key in self.schedules.keys() & hook.schedules:
                    raise ValueError(
                        f'LossScheduleHook: two hooks set {self.schedules[key].name}; keep one'
                    )

    def _find_losses(self, runner: Runner) -> dict[str, nn.Module]:
        distiller = getattr(unwrap(runner.model), 'distiller', None)
        losses = dict(getattr(distiller, 'distill_losses', {}).items())
        self.check_losses(losses)
        return {name: losses[name] for name, _ in self.schedules}

    def _restore_solved(self, runner: Runner) -> None:
        for schedule in self.schedules.values():
            if schedule.relax_to is not None:
                found = runner.message_hub.runtime_info.get(_info_key(schedule), {})
                resumed = runner.iter > 0 and found.get('relax_to') == schedule.relax_to
                schedule.end = found['end'] if resumed else None

    def _start(self, runner: Runner) -> None:
        hooks = [hook for hook in runner.hooks if isinstance(hook, LossScheduleHook)]
        checks = [hook for hook in runner.hooks if isinstance(hook, TeacherCheckHook)]
        meter, images = (checks[0].meter, checks[0].images) if checks else (None, '')
        known = known_losses(runner)
        for schedule in self.schedules.values():
            if schedule.relax_to is not None and schedule.end is None:
                if schedule.loss not in known:
                    raise ValueError(
                        f'LossScheduleHook: {schedule.name}: relax_to needs a loss on the logits, '
                        f'but {schedule.loss} compares features. Give `end` instead'
                    )
                self._solve(schedule, hooks, meter, runner)
        if self is not hooks[-1] or not is_main_process():
            return
        course = relaxation.course_of(hooks, runner.max_iters, self.epoch_length, meter, known)
        relaxation.announce(course, hooks, runner.logger, images)
        plot_schedules(
            [i / self.epoch_length for i in (*course.iterations, runner.max_iters)],
            course.values,
            f'{runner.work_dir}/schedule.png',
            course.totals,
            course.terms,
        )

    def _solve(
        self,
        schedule: Schedule,
        hooks: list['LossScheduleHook'],
        meter: Optional[StrengthMeter],
        runner: Runner,
    ) -> None:
        in_run = relaxation.solve_relax_to(schedule, hooks, runner.max_iters - 1, meter)
        solved = dict(relax_to=schedule.relax_to, end=schedule.end)
        runner.message_hub.update_info(_info_key(schedule), solved)
        when = 'is reached' if in_run else 'would be reached at r = 1, after the run,'
        runner.logger.info(
            f'{schedule.name}: relax_to={schedule.relax_to:g} {when} with end={schedule.end:.6g}'
        )


def _info_key(schedule: Schedule) -> str:
    return relaxation.SOLVED + schedule.name
