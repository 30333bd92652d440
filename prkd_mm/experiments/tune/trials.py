"""Settings of a method to try, and the choice of the best."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from mmengine.config import Config
from scipy.stats import qmc

from ...config_types import is_type

# lower bound, upper bound, unit: 'value' is the value in the config, 'tau' the trial's tau
RANGES = dict(
    tau=(1.0, 8.0, None),
    tau_L=(1 / 8, 1.0, 'tau'),
    loss_weight=(1 / 8, 2.0, 'value'),
    cor_weight=(1 / 8, 2.0, 'value'),
)


@dataclass
class Trial:
    """One setting of a method, and its results by seed, in percent of top-1."""

    method: str  # a key of METHODS
    number: int  # position in the search; 0 is the setting of the config
    values: dict[str, float]  # by parameter
    options: list[str]  # the values as ``KEY=VALUE`` overrides of a config
    last: list[float] = field(default_factory=list)  # after the last epoch
    averaged: list[float] = field(default_factory=list)  # of the tail average

    @property
    def score(self) -> float:
        """The criterion: mean top-1 of the tail averages over the seeds."""
        return statistics.fmean(self.averaged)


def parameters(cfg: Config) -> dict[str, list[str]]:
    """The keys of a config that can be searched, by parameter.

    The parameters are ``tau`` and ``loss_weight`` of the distillation loss, and ``tau_L`` and
    ``cor_weight``, the final values of schedules.

    Raises:
        ValueError: If there is not exactly one distillation loss.
    """
    losses = cfg.model.get('distiller', {}).get('distill_losses', {})
    if len(losses) != 1:
        raise ValueError(
            f'{cfg.filename} has {len(losses)} distillation losses, {list(losses)}; a search '
            'needs exactly one'
        )
    ((name, loss),) = losses.items()
    prefix = f'model.distiller.distill_losses.{name}'
    found = {key: [f'{prefix}.{key}'] for key in ('tau', 'loss_weight') if key in loss}
    hooks = {f'custom_hooks.{i}': hook for i, hook in enumerate(cfg.get('custom_hooks') or [])}
    hooks.update({f'default_hooks.{k}': hook for k, hook in cfg.get('default_hooks', {}).items()})
    for hook_key, hook in hooks.items():
        if not hook or not is_type(hook, 'LossScheduleHook'):
            continue
        for i, schedule in enumerate(hook['schedules']):
            key = f'{hook_key}.schedules.{i}'
            if schedule['loss'] != name or schedule.get('end') is None:
                continue
            if schedule['attr'] == 'tau':
                found.setdefault('tau', []).append(f'{key}.start')
                found['tau_L'] = [f'{key}.end']
            elif schedule['attr'] == 'cor_weight':
                found['cor_weight'] = [f'{key}.end']
    return found


def value_at(cfg: Config, key: str) -> float:
    """The value in a config at a key such as ``a.0.b``."""
    value = cfg
    for part in key.split('.'):
        value = value[int(part) if part.isdigit() else part]
    return value


def settings(cfg: Config, method: str, number: int, seed: int = 0) -> list[Trial]:
    """The settings to try: that of the config, in which the method is chosen, then spread points.

    The points are a scrambled Halton sequence on a logarithmic scale over :data:`RANGES`, rounded
    to two significant digits. ``number`` includes the setting of the config.
    """
    keys = parameters(cfg)
    own = {name: value_at(cfg, where[0]) for name, where in keys.items()}
    found = [Trial(method, 0, own, [])]
    points = qmc.Halton(len(keys), seed=seed).random(number - 1)
    for i, point in enumerate(points, 1):
        values: dict[str, float] = {}
        for name, share in zip(sorted(keys, key=list(RANGES).index), point):
            low, high, unit = RANGES[name]
            scale = dict(value=own[name], tau=values.get('tau', 1.0)).get(unit or '', 1.0)
            value = scale * low * (high / low) ** share
            values[name] = float(f'{value:.2g}')
        options = [f'{key}={values[name]}' for name in keys for key in keys[name]]
        found.append(Trial(method, i, values, options))
    return found


def finalists(found: Sequence[Trial], number: int) -> list[Trial]:
    """The setting of the config, and the best of the others."""
    ranked = sorted(found, key=lambda trial: -trial.score)
    own = [trial for trial in found if not trial.number]
    return own + [trial for trial in ranked if trial.number][:number]


def winner(final: Sequence[Trial]) -> Trial:
    """The best finalist over all seeds."""
    return max(final, key=lambda trial: trial.score)
