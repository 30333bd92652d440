"""Strength of the supervision over a run, computed from its loss schedules."""

import copy
import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Optional

import numpy as np
from torch import nn

from ..schedules import Schedule
from ..strength import DEFINED_FOR, StrengthMeter, largest_rebound

if TYPE_CHECKING:
    from .loss_schedule_hook import LossScheduleHook

SOLVED = 'relax_to/'  # prefix of ``<loss>.<attr>`` in the run's information in its checkpoints
AFTER_THE_RUN = 2**62  # an iteration at which every schedule has r = 1
_MAX_POINTS = 300  # of a curve
_MAX_STRENGTHS = 40  # of a curve; each temperature requires a softmax over all logits
_TERM_NAMES = dict(kl='KL', inter='Cor', intra='Cor intra', logit='logit')
NEEDED = (
    "add dict(type='TeacherCheckHook') to custom_hooks, and a validation set or stored logits; a "
    'list of teachers must be all live or all stored, and a live one has a softmax over the classes'
)
_SAME = 0.01  # relative changes up to this are not reported
_MAX_REBOUND = 1.1
_MAX_WEIGHT = 20.0  # of Cor; far from the match, Cor is of order 1 for any teacher


@dataclass
class Course:
    """Scheduled values and strengths over a run."""

    iterations: list[int]  # at which they are evaluated, from the first to the last
    values: dict[str, list[float]] = field(default_factory=dict)  # by ``<loss>.<attr>``
    totals: dict[str, list[float]] = field(default_factory=dict)  # strength by loss
    terms: dict[str, list[float]] = field(default_factory=dict)  # strength by ``<loss>: <term>``


def losses_at(hooks: Sequence['LossScheduleHook'], iteration: int) -> dict[str, nn.Module]:
    """Copy the scheduled losses, with their values at an iteration."""
    losses: dict[str, nn.Module] = {}
    for hook in hooks:
        progress = hook.progress_at_iteration(iteration)
        for (name, attr), schedule in hook.schedules.items():
            loss = losses.setdefault(name, copy.copy(hook.losses[name]))
            if schedule.end is not None:  # otherwise it is solved later
                setattr(loss, attr, schedule.at(progress))
    return losses


def course_of(
    hooks: Sequence['LossScheduleHook'],
    max_iters: int,
    epoch_length: int,
    meter: Optional[StrengthMeter],
    known: Collection[str],
) -> Course:
    """Evaluate the schedules of a run and the strengths that result from them.

    The hooks are all those of the run, ready to train. There are no strengths without a meter, or
    for losses that are not among the ``known`` ones.
    """
    step = epoch_length if all(hook.by_epoch for hook in hooks) else 1
    course = Course([step * i for i in _evenly(math.ceil(max_iters / step), _MAX_POINTS)])
    for iteration in course.iterations:
        for hook in hooks:
            values = hook.values_at(hook.progress_at_iteration(iteration))
            for (name, attr), value in values.items():
                course.values.setdefault(f'{name}.{attr}', []).append(value)
    if meter is not None:
        _add_strengths(course, hooks, meter, known)
    return course


def _evenly(total: int, most: int) -> list[int]:
    """At most ``most`` of ``range(total)``, evenly spaced, with the first and the last."""
    count = min(total, most)
    return [i * (total - 1) // max(count - 1, 1) for i in range(count)]


def _add_strengths(
    course: Course,
    hooks: Sequence['LossScheduleHook'],
    meter: StrengthMeter,
    known: Collection[str],
) -> None:
    chosen = [course.iterations[i] for i in _evenly(len(course.iterations), _MAX_STRENGTHS)]
    for i, iteration in enumerate(chosen):
        for name, loss in losses_at(hooks, iteration).items():
            if name in known:
                terms = meter.terms(loss)
                course.totals.setdefault(name, [0.0] * len(chosen))[i] = sum(terms.values())
                for kind, value in terms.items():
                    label = f'{name}: {_TERM_NAMES[kind]}'
                    course.terms.setdefault(label, [0.0] * len(chosen))[i] = value
    for curves in (course.totals, course.terms):
        for name, values in curves.items():
            curves[name] = np.interp(course.iterations, chosen, values).tolist()


def solve_relax_to(
    schedule: Schedule,
    hooks: Sequence['LossScheduleHook'],
    last_iteration: int,
    meter: Optional[StrengthMeter],
) -> bool:
    """Set the ``end`` of a schedule so that it reaches its ``relax_to``.

    The strength is affine in ``end``, so two evaluations determine ``end``.

    Returns:
        bool: True if the target is reached in the last iteration. False if the other terms are
        still too strong in that iteration, or Cor's weight has not moved yet: the target would be
        reached at r = 1.

    Raises:
        ValueError: If no ``end`` reaches the target, or there is no meter.
    """
    if meter is None:
        raise ValueError(
            f'LossScheduleHook: {schedule.name}: relax_to={schedule.relax_to:g} needs logits of '
            f'the teacher: {NEEDED}. Or give `end` instead'
        )

    def strength(end: float, iteration: int) -> float:
        schedule.end = end
        return meter.total(losses_at(hooks, iteration)[schedule.loss])

    initial = strength(0.0, 0)
    for iteration in (last_iteration, AFTER_THE_RUN):
        rest = strength(0.0, iteration)
        slope = strength(1.0, iteration) - rest
        missing = schedule.relax_to * initial - rest
        if slope > 0 and missing >= 0 and initial > 0:
            schedule.end = missing / slope
            return iteration == last_iteration
    schedule.end = None
    reason = 'the initial strength of the loss is 0'
    advice = 'Let its weights start above 0'
    if initial:
        reason = f'the other terms alone keep {rest / initial:.2g} of the initial strength'
        advice = 'Let the other weights end lower'
    if slope <= 0:
        reason = 'the correlation has no strength for this teacher (as with two classes)'
        advice = 'Choose another method, such as kd'
    raise ValueError(
        f'LossScheduleHook: relax_to={schedule.relax_to:g} of {schedule.name} cannot be reached, '
        f'because {reason}. {advice}, or give `end` instead of relax_to'
    )


def announce(
    course: Course,
    hooks: Sequence['LossScheduleHook'],
    logger: logging.Logger,
    images: Optional[str],
) -> None:
    """Log how the supervision changes over the run, with warnings about unintended changes.

    ``images`` describes the images whose logits determine the strength. It is empty without them,
    and None if these logits have no strength, which the log says already.
    """
    if not course.totals and images is not None:
        kinds = {type(loss).__name__ for hook in hooks for loss in hook.losses.values()}
        reason = (
            f'it is defined for {DEFINED_FOR}, on logits; scheduled: {", ".join(sorted(kinds))}'
        )
        logger.info(f'The strength of the supervision is unknown: {reason if images else NEEDED}')
    for name, strengths in course.totals.items():
        schedules = [s for hook in hooks for s in hook.schedules.values() if s.loss == name]
        logger.info(f'{summary(name, strengths)} ({images})')
        correlation = course.terms.get(f'{name}: {_TERM_NAMES["inter"]}')
        for text in warnings(name, strengths, schedules, correlation):
            logger.warning(text)


def summary(name: str, strengths: Sequence[float]) -> str:
    """Describe in one line how the supervision of a loss changes over the run."""
    first, last = strengths[0], strengths[-1]
    if abs(last - first) <= _SAME * first:
        verdict = 'it ends as strong as it begins'
    elif first == 0:
        verdict = 'it tightens from 0'
    elif last > first:
        verdict = f'it tightens {_times(last / first)} times'
    else:
        verdict = f'it relaxes to {last / first:.2g} of its initial strength'
    return f'{name}: supervision {first:#.2g} → {last:#.2g}: {verdict}'


def _times(ratio: float) -> str:
    return f'{ratio:.1f}' if ratio >= _MAX_REBOUND else f'{ratio:.2f}'


def warnings(
    name: str,
    strengths: Sequence[float],
    schedules: Sequence[Schedule],
    correlation: Optional[Sequence[float]] = None,
) -> list[str]:
    """List warnings about the strength of a loss over the run.

    The schedules are all those of this loss, and ``correlation`` is the strength of its Cor.
    """
    first, last = strengths[0], strengths[-1]
    targets = [schedule.relax_to for schedule in schedules if schedule.relax_to is not None]
    found = []
    relaxes = any(s.end < s.start for s in schedules)
    if targets:
        relaxes = min(targets) <= 1
    if relaxes and last > (1 + _SAME) * first:
        found.append(
            f'{name}: the schedule is meant to relax the supervision, but for this teacher it '
            f'tightens it {_times(last / max(first, 1e-30))} times. {_how_to_relax(schedules)}'
        )
    if targets:
        found += _about_target(name, strengths, targets[0])
        found += _about_course(name, strengths, schedules)
    found += _about_correlation(name, schedules, correlation)
    return found


def _about_target(name: str, strengths: Sequence[float], target: float) -> list[str]:
    reached = strengths[-1] / strengths[0] if strengths[0] else math.inf
    if abs(reached - target) <= _SAME * target:
        return []
    return [
        f'{name}: the supervision ends at {reached:.2g} of its initial strength, not at '
        f'relax_to={target:g}. With few epochs, r is far from 1 in the last one, where KL alone '
        'may be too strong: train longer, or set by_epoch=False in the LossScheduleHook. A window '
        'that begins late, and a resumed run of another length, which keeps the solved end, also '
        'miss the target'
    ]


def _about_course(
    name: str, strengths: Sequence[float], schedules: Sequence[Schedule]
) -> list[str]:
    """Warnings about a strength that leaves the range of its two ends, or climbs back."""
    found = []
    top = max(strengths[0], strengths[-1])
    tau_end = [schedule.end for schedule in schedules if schedule.attr == 'tau']
    raise_tau = 'raise the final temperature τ_L, the end of the schedule of tau' + ''.join(
        f' (now {end:g})' for end in tau_end
    )
    if max(strengths) > (1 + _SAME) * top:
        found.append(
            f'{name}: in between, the strength reaches {max(strengths):#.2g}, '
            f'{_times(max(strengths) / top)} times the larger end, because one term grows before '
            f'another has fallen. If tau falls, {raise_tau}. Otherwise let tau fall, give all '
            'schedules of this loss the same begin, end and shape, without one of loss_weight, and '
            'keep scale_by_tau2=True'
        )
    rebound = largest_rebound([min(value, top) for value in strengths])
    if rebound > _MAX_REBOUND:
        factor = f' by a factor of {rebound:.2g}' if math.isfinite(rebound) else ' from 0'
        found.append(
            f'{name}: in between, the strength falls and climbs back{factor}, because KL vanishes '
            f'before Cor has grown. For this teacher, {raise_tau}, or let cor_weight start above 0'
        )
    return found


def _about_correlation(
    name: str, schedules: Sequence[Schedule], correlation: Optional[Sequence[float]]
) -> list[str]:
    """Warnings about a Cor that hardly constrains the student, whatever its weight."""
    for schedule in schedules:
        if schedule.attr != 'cor_weight' or not schedule.end:
            continue
        if correlation is not None and not max(correlation):
            return [
                f'{name}: cor_weight is scheduled, but Cor has no strength for this teacher (as '
                'with two classes, where it has no gradient). Use another method, such as kd'
            ]
        if schedule.relax_to is not None and schedule.end > _MAX_WEIGHT:
            return [
                f'{name}: for this teacher, relax_to={schedule.relax_to:g} needs a cor_weight that '
                f'ends at {schedule.end:.3g}. Far from the match, so large a weight may make the '
                'training diverge. Lower relax_to, or raise tau_cor of the loss, at which Cor is '
                'stronger'
            ]
    return []


def _how_to_relax(schedules: Sequence[Schedule]) -> str:
    if any(schedule.attr == 'cor_weight' for schedule in schedules):
        return (
            'To let it relax, give the schedule of cor_weight relax_to=0.25 instead of end, or set '
            "scale_cor_by_tau2=False. In this project's trials, the averaged student was worse "
            'when it relaxed (docs/results.md)'
        )
    return 'Raise the end of tau, or multiply the loss by τ² (scale_by_tau2=True of PRKDLoss)'
