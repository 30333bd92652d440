"""Strength of a run's distillation losses over its epochs."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, init_default_scope
from mmengine.runner import Runner
from torch import Tensor, nn

from ...estimates import Estimate
from ...hooks import LossScheduleHook
from ..batches import Batches, collect_logits
from ..nets import load_weights
from ..output import Report
from ..runs import Run, tail_checkpoints
from .measure import Term, gradients, mean_curvature, over_samples

_POINTS = 50  # epochs of the curve
PARTS = dict(kl='KL', inter='Cor inter', intra='Cor intra', logit='logit')


class StrengthOverRun(NamedTuple):
    """Strength of one run's loss at the match, and its gradient on the run's students."""

    epochs: list[int]  # 0-based
    strength: list[float]  # mean curvature at these epochs, with all weights
    parts: dict[str, list[float]]  # contributions to it, by kind of term
    gradients: dict[int, Estimate]  # norm in the logits, by epoch of the checkpoint


def strength_over_run(
    run: Run, student: nn.Module, batches: Batches, preds_T: Tensor, batch_size: int, report: Report
) -> StrengthOverRun:
    """Follow the strength of a run's loss over its epochs.

    Args:
        run: The run.
        student: Gets the weights of the run's checkpoints.
        batches: The images.
        preds_T: Logits of the teacher on the first of these images, ``(N, C)``.
        batch_size: Samples over which 'intra' correlates.
        report: Shows the progress.

    Raises:
        ValueError: If the run counts iterations, or its losses are not covered.
    """
    length = run_length(run.cfg)
    preds_T = preds_T.double()
    epochs = sorted({round(epoch) for epoch in np.linspace(0, length - 1, _POINTS)})
    description = f'{run.title}: strength over the epochs'
    all_terms = report.track(description)(run_terms(run.cfg, epochs))
    parts = _parts(all_terms, len(epochs), preds_T, batch_size)
    kept = {} if run.checkpoints else tail_checkpoints(run.cfg.work_dir, 0)
    trained = [epoch for epoch in kept if epoch <= length]
    norms = {}
    for epoch in report.track(f'{run.title}: gradients of its students')(trained):
        load_weights(student, kept[epoch])
        logits, _ = collect_logits(dict(student=student), batches)
        preds_S = logits['student'][: len(preds_T)].to(preds_T)
        (terms,) = run_terms(run.cfg, [epoch - 1])  # the epoch that ends with the checkpoint
        norms[epoch] = over_samples(gradients(terms, preds_S, preds_T, batch_size).norm(dim=1))
    return StrengthOverRun(epochs, [sum(values) for values in zip(*parts.values())], parts, norms)


def _parts(
    all_terms: Iterable[list[Term]], count: int, preds_T: Tensor, batch_size: int
) -> dict[str, list[float]]:
    """Contributions to the strength at ``count`` epochs, by kind of term."""
    parts: dict[str, list[float]] = {}
    curvature: dict[Term, float] = {}  # with weight 1, since constant temperatures recur
    for i, terms in enumerate(all_terms):
        for term in terms:
            unit = term._replace(weight=1.0)
            if unit not in curvature:
                curvature[unit] = mean_curvature([unit], preds_T, batch_size)
            values = parts.setdefault(PARTS[term.kind], [0.0] * count)
            values[i] += term.weight * curvature[unit]
    return parts


def terms_of(loss: nn.Module) -> list[Term]:
    """The terms of a loss module, with its current weights.

    Args:
        loss: ``PRKDLoss``, or MMRazor's ``KLDivergence``, ``DISTLoss`` or ``L2Loss``.

    Raises:
        ValueError: If it is another loss, or has options that are not covered.
    """
    name, weight = type(loss).__name__, getattr(loss, 'loss_weight', 1.0)
    if name == 'PRKDLoss':
        tau2 = loss.tau**2 if loss.scale_by_tau2 else 1
        cor2 = loss.tau_cor**2 if loss.scale_cor_by_tau2 else 1
        cor = weight * loss.cor_weight * cor2
        terms = [
            Term('kl', loss.tau, weight * loss.kl_weight * tau2),
            Term('inter', loss.tau_cor, cor * loss.inter_weight),
            Term('intra', loss.tau_cor, cor * loss.intra_weight),
        ]
    elif name == 'KLDivergence' and loss.reduction == 'batchmean':
        terms = [Term('kl', loss.tau, weight * loss.tau**2)]
    elif name == 'DISTLoss':
        weight *= loss.tau**2
        terms = [
            Term('inter', loss.tau, weight * loss.inter_loss_weight),
            Term('intra', loss.tau, weight * loss.intra_loss_weight),
        ]
    elif name == 'L2Loss' and loss.div_element and not loss.normalize and not loss.dist:
        terms = [Term('logit', 1.0, 2 * weight)]
    else:
        raise ValueError(
            f'the strength of {name} is not known; it is for PRKDLoss, '
            "KLDivergence(reduction='batchmean'), DISTLoss and "
            'L2Loss(normalize=False, div_element=True)'
        )
    return [term for term in terms if term.weight]


def run_terms(cfg: Config, epochs: Sequence[int]) -> list[list[Term]]:
    """The terms of a run's distillation losses at 0-based ``epochs``.

    From the losses of the config, with the values that its ``LossScheduleHook`` sets.

    Raises:
        ValueError: If the config has no distillation loss, or :func:`terms_of` does not
            cover one.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    configs = cfg.model.get('distiller', {}).get('distill_losses')
    if not configs:
        raise ValueError('the config has no distill_losses, and so no strength over a run')
    # the losses of a config whose model has a scope are without one
    scope = cfg.model.get('_scope_', 'mmrazor')
    losses = {name: MODELS.build(dict(loss, _scope_=scope)) for name, loss in configs.items()}
    hooks = [
        HOOKS.build(hook)
        for hook in (*cfg.get('custom_hooks', []), *cfg.get('default_hooks', {}).values())
        if hook and hook['type'].rpartition('.')[2] == 'LossScheduleHook'
    ]
    steps = _epoch_length(cfg, hooks)
    result = []
    for epoch in epochs:
        for hook in hooks:
            position = epoch if hook.by_epoch else epoch * steps
            values = hook.values_at(hook.progress_at(position))
            for (loss, attr), value in values.items():
                setattr(losses[loss], attr, value)
        result.append([term for loss in losses.values() for term in terms_of(loss)])
    return result


def run_length(cfg: Config) -> int:
    """Epochs of the run that a config describes.

    Raises:
        ValueError: If it counts iterations.
    """
    epochs = cfg.train_cfg.get('max_epochs')
    if not epochs:
        raise ValueError(
            'the strength along a run is drawn over its epochs, '
            'and train_cfg of the config has no max_epochs'
        )
    return epochs


def _epoch_length(cfg: Config, hooks: list[LossScheduleHook]) -> int:
    """Set the window's end as the hooks' ``before_train`` does."""
    steps = 1
    if not all(hook.by_epoch for hook in hooks):
        steps = len(Runner.build_dataloader(cfg.train_dataloader))
    for hook in hooks:
        length = run_length(cfg) * (1 if hook.by_epoch else steps)
        hook.window_end = length if hook.end is None else hook.end
    return steps
