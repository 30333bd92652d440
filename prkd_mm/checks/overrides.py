"""Check overrides of a config, given as ``KEY=VALUE``, before they are applied."""

import inspect
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import mmengine.registry
import mmpretrain.registry
import mmrazor.registry
from mmengine.registry import Registry
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from .number_checks import is_number

_SHOWN = 8  # names listed in a message
# Keys that MMEngine removes before it passes the rest to a class.
_TAKEN_OUT = {
    'type', '_scope_', '_delete_', 'priority', 'convert_to_iter_based', 'constructor',
    'paramwise_cfg', 'optimizer', 'by_epoch', 'num_batch_per_epoch', 'init_cfg',
}  # fmt: skip
_BOTH = ('priority', 'loss_scale')  # numbers or names
_NAMED_PARTS = ('model.teacher',)  # a dict, or the name of a net
# Settings without a `type`, and the functions that get them as arguments.
_UNTYPED = {
    'train_dataloader': [DataLoader],
    'val_dataloader': [DataLoader],
    'test_dataloader': [DataLoader],
    'train_cfg': [EpochBasedTrainLoop, IterBasedTrainLoop],
    'randomness': [Runner.set_randomness],
}
_TOP_LEVEL = set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'} | {
    'method', 'auto_scale_lr', 'find_unused_parameters', 'model_wrapper_cfg', 'sync_bn',
    'custom_imports', 'compile',
}  # fmt: skip


def nearest(name: str, candidates: Iterable[str]) -> str:
    """A hint with the most similar candidate, or with a few candidates if none is similar."""
    candidates = sorted(set(map(str, candidates)))
    similar = get_close_matches(name, candidates, n=1, cutoff=0.6)
    if similar:
        return f'did you mean {similar[0]!r}?'
    more = ', ...' if len(candidates) > _SHOWN else ''
    return f'known names: {", ".join(candidates[:_SHOWN])}{more}'


def check_overrides(cfg: dict, options: dict[str, Any]) -> None:
    """Reject overrides that no part of a run would read.

    A new key is accepted if the class that gets the settings has an argument of this name, or if
    its value is a new part with its own ``type``.

    Raises:
        ValueError: If a key is unknown; the message names the most similar one.
    """
    for key in options:
        _check_key(cfg, key, options)


def check_types(cfg: dict, options: dict[str, Any]) -> None:
    """Reject overrides whose type differs from that of the value in the config without them.

    A part of a run stays a dict, a number does not become a text, and a flag stays a flag. All keys
    of ``options`` are known.

    Raises:
        ValueError: If a type differs; the message names the key and both values.
    """
    for key, value in options.items():
        old: Any = cfg
        for part in key.split('.'):
            if isinstance(old, (list, tuple)):
                old = old[int(part)]
            else:
                old = old.get(part) if isinstance(old, dict) else None
        if isinstance(old, bool) and not isinstance(value, (bool, type(None))):
            raise ValueError(f'{key} must be True or False, got {value!r}')
        if is_number(old) and isinstance(value, str) and key.rpartition('.')[2] not in _BOTH:
            raise ValueError(f'{key} must be a number, such as {old!r}; got {value!r}')
        is_part = isinstance(old, dict) and 'type' in old and key not in _NAMED_PARTS
        if is_part and not isinstance(value, (dict, list, tuple, type(None))):
            raise ValueError(f'{key} must be a dict of settings, got {value!r}')


def check_arguments(cfg: dict, path: str) -> None:
    """Raise a ValueError if the class in the ``type`` of some settings does not accept one."""
    known, complete = _arguments(cfg, path, {})
    for name in cfg if complete else ():
        if name not in known:
            hint = nearest(name, known - _TAKEN_OUT)
            raise ValueError(f'{path}.{name}: {cfg["type"]} has no argument {name!r}; {hint}')


def _check_key(cfg: dict, key: str, options: dict[str, Any]) -> None:
    node: Any = cfg
    parts = key.split('.')
    for i, part in enumerate(parts):
        path = '.'.join(parts[:i])
        if isinstance(node, (list, tuple)):
            if not part.isdigit() or int(part) >= len(node):
                raise ValueError(
                    f'--cfg-options {key}: {path} is a list of {len(node)}; give an index from '
                    f'0 to {len(node) - 1}, got {part!r}'
                )
            node = node[int(part)]
        elif isinstance(node, dict):
            if part not in node:
                return _check_new(cfg, node, path, part, key, options)
            node = node[part]
        elif node is None:
            return None
        else:
            raise ValueError(f'--cfg-options {key}: {path} is {node!r}, which has no {part!r}')
    return None


def _check_new(
    cfg: dict, node: dict, path: str, part: str, key: str, options: dict[str, Any]
) -> None:
    """Reject a key that is not in ``node``, unless something reads it."""
    if not path:
        known, closed = _TOP_LEVEL, True
    else:
        known, closed = _arguments(node, path, options)
    if part in known:
        return
    prefix = f'{path}.{part}' if path else part
    new = options.get(prefix)
    is_new_part = f'{prefix}.type' in options or (isinstance(new, dict) and 'type' in new)
    if path and not closed and (is_new_part or not _holds_parts(node)):
        if not get_close_matches(part, node, n=1, cutoff=0.8):
            return
    if path:
        hint = nearest(part, {*node, *(known - _TAKEN_OUT)})
        raise ValueError(f'--cfg-options {key}: {path} has no {part!r}; {hint}')
    raise ValueError(
        f'--cfg-options {key}: a config has no {part!r}; {_nearest_anywhere(cfg, key)}'
    )


def _nearest_anywhere(cfg: dict, key: str) -> str:
    """A hint for a key whose first part is unknown."""
    first, last = key.partition('.')[0], key.rpartition('.')[2]
    if '.' in key and get_close_matches(first, {*cfg, *_TOP_LEVEL}, n=1, cutoff=0.6):
        return nearest(first, {*cfg, *_TOP_LEVEL})
    by_last: dict[str, str] = {}
    for known in _all_keys(cfg):
        by_last.setdefault(known.rpartition('.')[2], known)
    by_last.update({name: name for name in _TOP_LEVEL})
    similar = get_close_matches(last, by_last, n=1, cutoff=0.6)
    return f'did you mean {by_last[similar[0]]!r}?' if similar else nearest(first, cfg)


def _holds_parts(node: dict) -> bool:
    """Whether a dict is a collection of parts, such as hooks or losses."""
    return bool(node) and all(isinstance(value, dict) or value is None for value in node.values())


def _all_keys(cfg: Any, prefix: str = '') -> list[str]:
    if not isinstance(cfg, dict):
        return []
    keys = []
    for name, value in cfg.items():
        keys += [f'{prefix}{name}', *_all_keys(value, f'{prefix}{name}.')]
    return keys


def _arguments(node: dict, path: str, options: dict[str, Any]) -> tuple[set[str], bool]:
    """Argument names of the class that ``node`` builds, and whether the list is complete."""
    name = options.get(f'{path}.type', node.get('type'))
    builders = _builders(name) if name else _UNTYPED.get(path, [])
    known, closed = set(_TAKEN_OUT), bool(builders)
    for builder in builders:
        names, complete = _parameters(builder)
        known |= names
        closed = closed and complete
    return known, closed


def _builders(name: Any) -> list:
    """Everything registered under a name, in all registries."""
    if not isinstance(name, str):
        return [name] if callable(name) else []
    name = name.rpartition('.')[2]
    registries = (
        registry
        for package in (mmrazor.registry, mmpretrain.registry, mmengine.registry)
        for registry in vars(package).values()
        if isinstance(registry, Registry)
    )
    found = (registry.module_dict.get(name) for registry in registries)
    return [builder for builder in found if builder is not None]


def _parameters(builder: Any) -> tuple[set[str], bool]:
    functions = [builder]
    if inspect.isclass(builder):
        functions = [vars(each)['__init__'] for each in builder.__mro__ if '__init__' in vars(each)]
    names: set[str] = set()
    for function in functions:
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            return names, False
        kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        names |= {
            each.name for each in parameters if each.kind not in kinds and each.name != 'self'
        }
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
            return names, True
    return names, False
