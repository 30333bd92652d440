"""The terms of a run's distillation losses, over its epochs."""

from collections.abc import Sequence

from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn

from ...hooks import LossScheduleHook
from .measure import Term


def terms_of(loss: nn.Module) -> list[Term]:
    """The terms of a loss module, with its weights as they are now.

    Args:
        loss (nn.Module): ``PRKDLoss``, or MMRazor's ``KLDivergence``,
            ``DISTLoss`` or ``L2Loss``.

    Raises:
        ValueError: Another loss, or one whose options are not covered.
    """
    name, weight = type(loss).__name__, getattr(loss, 'loss_weight', 1.0)
    if name == 'PRKDLoss':
        tau2, cor2 = (loss.tau**2, loss.tau_cor**2) if loss.scale_by_tau2 else (1, 1)
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
            f'the strength of {name} is not known here; it is of PRKDLoss, '
            "KLDivergence(reduction='batchmean'), DISTLoss and "
            'L2Loss(normalize=False, div_element=True)'
        )
    return [term for term in terms if term.weight]


def run_terms(cfg: Config, epochs: Sequence[int]) -> list[list[Term]]:
    """The terms of a run's distillation losses at 0-based ``epochs``.

    From the losses and the ``LossScheduleHook``s of the config, as the run
    itself sets them.

    Raises:
        ValueError: The config distils nothing, or see :func:`terms_of`.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    configs = cfg.model.get('distiller', {}).get('distill_losses')
    if not configs:
        raise ValueError(
            'the config has no distill_losses, so that there is no strength to follow over a run'
        )
    # unscoped in a config whose model has a scope
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
        result.append([t for loss in losses.values() for t in terms_of(loss)])
    return result


def run_length(cfg: Config) -> int:
    """Epochs of the run that a config describes.

    Raises:
        ValueError: It counts iterations.
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
