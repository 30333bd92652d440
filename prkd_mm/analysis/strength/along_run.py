"""Strength of a run's distillation losses over its epochs."""

from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.registry import HOOKS, MODELS, init_default_scope
from mmengine.runner import Runner
from torch import Tensor, nn

from ...checkpoints import read
from ...config_types import is_type
from ...hooks import LossScheduleHook
from ...hooks.relaxation import SOLVED, solve_relax_to
from ...stats.estimates import Estimate
from ...strength import StrengthMeter, Term, compares_features, terms_of
from ..batches import Batches, collect_logits
from ..nets import load_weights
from ..output import Report
from ..runs import Run, tail_checkpoints
from .measure import gradients, over_samples

_POINTS = 50  # number of epochs on the curve
PARTS = dict(kl='KL', inter='Cor inter', intra='Cor intra', logit='logit')


class StrengthOverRun(NamedTuple):
    """Strength of one run's loss at the match, and its gradient on the run's students."""

    epochs: list[int]  # 0-based
    strength: list[float]  # mean curvature at these epochs, with all weights
    parts: dict[str, list[float]]  # contributions to it, by kind of term
    gradients: dict[int, Estimate]  # norm in the logits, by epoch of the checkpoint


class RunLosses:
    """The distillation losses of a run on the logits, with their values in a given epoch.

    Schedules with ``relax_to`` end at the values that the run ``solved``, by ``<loss>.<attr>``. For
    a run without such values, they are solved with the ``meter`` of the strength for its teacher.

    Raises:
        ValueError: If the config has no distillation loss on the logits, or is iteration-based.
    """

    def __init__(
        self, cfg: Config, meter: StrengthMeter, solved: Optional[dict[str, float]] = None
    ) -> None:
        init_default_scope(cfg.get('default_scope', 'mmpretrain'))
        configs = cfg.model.get('distiller', {}).get('distill_losses')
        if not configs:
            raise ValueError('the config has no distill_losses, so the run has no strength')
        self._on_logits = [
            name for name in configs if not compares_features(_sources(cfg.model.distiller, name))
        ]
        if not self._on_logits:
            raise ValueError(
                f'{", ".join(configs)}: all distill_losses compare features; the strength is that '
                'of a loss on the logits'
            )
        self.length = cfg.train_cfg.get('max_epochs')
        if not self.length:
            raise ValueError('the strength is computed for epochs, but train_cfg has no max_epochs')
        # if the model has a scope, it applies to its losses, too
        scope = cfg.model.get('_scope_', 'mmrazor')
        self.losses: dict[str, nn.Module] = {
            name: MODELS.build(dict(loss, _scope_=scope)) for name, loss in configs.items()
        }
        self.hooks: list[LossScheduleHook] = [
            HOOKS.build(hook)
            for hook in (*cfg.get('custom_hooks', []), *cfg.get('default_hooks', {}).values())
            if hook and is_type(hook, 'LossScheduleHook')
        ]
        self._epoch_length = 1
        if not all(hook.by_epoch for hook in self.hooks):
            self._epoch_length = len(Runner.build_dataloader(cfg.train_dataloader))
        iterations = self.length * self._epoch_length
        for hook in self.hooks:
            hook.losses, hook.epoch_length = self.losses, self._epoch_length
            hook.set_length(self.length if hook.by_epoch else iterations)
        for hook in self.hooks:
            for schedule in hook.schedules.values():
                if schedule.relax_to is not None:
                    schedule.end = (solved or {}).get(schedule.name)
                    if schedule.end is None:
                        solve_relax_to(schedule, self.hooks, iterations - 1, meter)

    def at(self, epoch: int) -> list[nn.Module]:
        """The losses on the logits with their values in a 0-based epoch."""
        for hook in self.hooks:
            progress = hook.progress_at_iteration(epoch * self._epoch_length)
            for (loss, attr), value in hook.values_at(progress).items():
                setattr(self.losses[loss], attr, value)
        return [self.losses[name] for name in self._on_logits]

    def terms(self, epoch: int) -> list[Term]:
        """The terms of all losses on the logits in a 0-based epoch."""
        return [term for loss in self.at(epoch) for term in terms_of(loss)]


def _sources(distiller: ConfigDict, loss: str) -> list[str]:
    """The sources of the recorders whose outputs a loss compares."""
    records = distiller.get('loss_forward_mappings', {}).get(loss, {}).values()
    sides = ('student_recorders' if r['from_student'] else 'teacher_recorders' for r in records)
    return [
        distiller[side][record['recorder']].get('source', '')
        for side, record in zip(sides, records)
    ]


def checkpoints_of(run: Run) -> dict[int, Path]:
    """The checkpoints in the work dir of a run, by epoch; empty for a run of given checkpoints."""
    return {} if run.checkpoints else tail_checkpoints(run.cfg.work_dir, 0)


def solved_ends(run: Run) -> dict[str, float]:
    """The ends that a run solved for ``relax_to``, by ``<loss>.<attr>``; empty without a run."""
    try:
        checkpoint = read(run.weights())
    except FileNotFoundError:
        return {}
    found = checkpoint.get('message_hub', {}).get('runtime_info', {})
    return {
        key.removeprefix(SOLVED): value['end']
        for key, value in found.items()
        if key.startswith(SOLVED)
    }


def strength_over_run(
    run: Run, student: nn.Module, batches: Batches, preds_T: Tensor, batch_size: int, report: Report
) -> StrengthOverRun:
    """Compute the strength of a run's loss over its epochs.

    The run's checkpoints are loaded into ``student``. ``preds_T`` are the logits ``(N, C)`` of
    the teacher on the first of the images. 'intra' correlates over ``batch_size`` samples.

    Raises:
        ValueError: If the run is iteration-based, or its losses are not supported.
    """
    preds_T = preds_T.double()
    meter = StrengthMeter(preds_T, batch_size)
    losses = RunLosses(run.cfg, meter, solved_ends(run))
    epochs = sorted({round(epoch) for epoch in np.linspace(0, losses.length - 1, _POINTS)})
    parts: dict[str, list[float]] = {}
    for i, epoch in enumerate(report.track(f'{run.title}: strength over the epochs')(epochs)):
        for loss in losses.at(epoch):
            for kind, value in meter.terms(loss).items():
                parts.setdefault(PARTS[kind], [0.0] * len(epochs))[i] += value
    kept = checkpoints_of(run)
    trained = [epoch for epoch in kept if epoch <= losses.length]
    norms = {}
    for epoch in report.track(f'{run.title}: gradients of its students')(trained):
        load_weights(student, kept[epoch])
        logits, _ = collect_logits(dict(student=student), batches)
        preds_S = logits['student'][: len(preds_T)].to(preds_T)
        terms = losses.terms(epoch - 1)  # the checkpoint is saved at the end of this epoch
        norms[epoch] = over_samples(gradients(terms, preds_S, preds_T, batch_size).norm(dim=1))
    return StrengthOverRun(epochs, [sum(values) for values in zip(*parts.values())], parts, norms)
