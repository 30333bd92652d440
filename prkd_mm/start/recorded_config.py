"""Compare the config recorded in a checkpoint with the config of a new run."""

import ast
from typing import Any, NamedTuple, Optional

from ..config_types import is_type

# Only these settings change what a training run computes.
_COMPARED = ('method', 'model', 'data_preprocessor', 'optim_wrapper', 'param_scheduler')
# So do these hooks, wherever they are in the config.
_HOOKS = ('LossScheduleHook', 'TailAverageHook', 'EMAHook', 'EpochSeedHook', 'SyncBuffersHook')
# These depend on the length of the run, so a change of the length changes the result.
_HOOKS_OVER_THE_RUN = ('LossScheduleHook', 'TailAverageHook')
_LOADING = ('num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor', 'batch_size')
_PATHS = ('data_root', 'ann_file', 'data_prefix', 'cache', 'root')
_SHOWN = 4  # changes listed in a message


class Changes(NamedTuple):
    """Differences between two configs, one sentence each."""

    decisive: list[str]  # those that change the result
    harmless: list[str]  # those that do not, but are logged


def parse(text: str) -> dict:
    """Read the text of a dumped config, as in the ``meta`` of a checkpoint, without executing it.

    Raises:
        ValueError: If the text is more than assignments of literals and ``dict(...)``.
    """
    try:
        statements: list[Any] = ast.parse(text).body
        return {statement.targets[0].id: _value(statement.value) for statement in statements}
    except (SyntaxError, AttributeError) as error:
        raise ValueError(f'the checkpoint records a config that cannot be read: {error}') from error


def _value(node: Any) -> Any:
    if isinstance(node, ast.Dict):
        keys = (ast.literal_eval(key) for key in node.keys)  # type: ignore[arg-type]
        return dict(zip(keys, map(_value, node.values)))
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(element) for element in node.elts]
    if isinstance(node, ast.Name) and node.id in ('inf', 'nan'):  # as MMEngine writes them
        return float(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    function = getattr(node.func, 'id', None)
    if function == 'dict':  # dict(a=1), or dict({'a-b': 1}) for other keys
        parts = [_value(argument) for argument in node.args]
        parts += [{keyword.arg: _value(keyword.value)} for keyword in node.keywords]
        return {key: value for part in parts for key, value in part.items()}
    raise ValueError(f'the checkpoint records a config that calls {function or "a function"}')


def changes(
    before: dict, now: dict, ranks_before: Optional[int] = None, ranks_now: int = 1
) -> Changes:
    """The settings that differ between a recorded run, from :func:`parse`, and a new one.

    The number of processes of the recorded run is None if it was not recorded.
    """
    old, new = _relevant(before, ranks_before or ranks_now), _relevant(now, ranks_now)
    decisive, harmless = [], []
    for key in dict.fromkeys([*old, *new]):
        one, other = old.get(key), new.get(key)
        if one == other:
            continue
        text = f'{key} was {one!r} and is now {other!r}'
        if _is_harmless(key, new):
            harmless.append(text)
        else:
            decisive.append(text)
    return Changes(_shorten(decisive), _shorten(harmless))


def _shorten(texts: list[str]) -> list[str]:
    more = len(texts) - _SHOWN
    return texts[:_SHOWN] + ([f'and {more} more'] if more > 0 else [])


def _is_harmless(key: str, settings: dict) -> bool:
    *_, name = key.split('.')
    if key in ('train_cfg.max_epochs', 'train_cfg.max_iters'):
        return not any(hook in setting for hook in _HOOKS_OVER_THE_RUN for setting in settings)
    return any(part in _PATHS for part in key.split('.')) and name != 'teacher_ckpt'


def _relevant(cfg: dict, ranks: int) -> dict[str, Any]:
    """The settings that affect the result, by dotted name."""
    loader = dict(cfg.get('train_dataloader') or {})
    if is_type(loader.get('worker_init_fn') or {}, 'seed_worker_by_epoch'):
        del loader['worker_init_fn']  # which tools/train.py adds
    train_cfg = cfg.get('train_cfg') or {}
    parts = {name: cfg.get(name) for name in _COMPARED}
    parts['train_cfg'] = {
        name: train_cfg.get(name) for name in ('by_epoch', 'max_epochs', 'max_iters')
    }
    parts['randomness'] = dict(seed=(cfg.get('randomness') or {}).get('seed'))
    parts['images per step (batch size × processes)'] = loader.get('batch_size', 0) * ranks
    parts['train_dataloader'] = {k: v for k, v in loader.items() if k not in _LOADING}
    # sorted, since MMEngine sorts the keys of a config that it dumps
    by_default = [hook for _, hook in sorted((cfg.get('default_hooks') or {}).items())]
    hooks = [hook for hook in [*by_default, *(cfg.get('custom_hooks') or [])] if hook]
    for name in _HOOKS:  # with any scope
        parts[name] = [dict(hook, type=name) for hook in hooks if is_type(hook, name)] or None
    flat: dict[str, Any] = {}
    for name, part in parts.items():
        _flatten(part, name, flat)
    return flat


def _flatten(value: Any, name: str, into: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for key, part in value.items():
            _flatten(part, f'{name}.{key}', into)
    elif isinstance(value, (list, tuple)) and any(isinstance(part, dict) for part in value):
        for i, part in enumerate(value):
            _flatten(part, f'{name}.{i}', into)
    elif value is not None:  # a missing setting and None are the same
        into[name] = list(value) if isinstance(value, tuple) else value
