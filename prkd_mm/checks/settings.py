"""Check the values of settings before anything is built from them."""

import logging
import math
import os.path as osp
from collections.abc import Sequence
from typing import Any

import mmengine.registry
import mmpretrain.registry
import mmrazor.registry
from mmengine.registry import Registry

from ..config_types import is_type
from ..hooks.loss_schedule_hook import LossScheduleHook
from ..hooks.tail_average_hook import check_best, check_tail
from .metric_checks import check_metrics, in_channels
from .number_checks import check_whole_number, is_number
from .overrides import check_arguments, nearest

_CLIP_GRAD = {'type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach', 'clip_value'}
_CHOICES = dict(launcher=(None, 'none', 'pytorch', 'slurm', 'mpi'), sync_bn=(None, 'torch', 'mmcv'))
_LOGITS = {'views', 'folder', 'topk', 'seed', 'identity', 'complete', 'verify'}
_LEVELS = ('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL')

# Types, their description, and the settings that must have them
_TYPES: list[tuple[Any, str, str]] = [
    (dict, 'a dict of settings', 'train_dataloader val_dataloader test_dataloader train_cfg '
     'val_cfg test_cfg model data_preprocessor model.data_preprocessor model.architecture '
     'model.distiller model.distiller.distill_losses optim_wrapper optim_wrapper.paramwise_cfg '
     'optim_wrapper.optimizer default_hooks default_hooks.logger default_hooks.checkpoint env_cfg '
     'log_processor visualizer custom_imports randomness auto_scale_lr'),
    (dict, 'a dict, such as dict(max_norm=5)', 'optim_wrapper.clip_grad'),
    (bool, 'True or False', 'train_cfg.by_epoch resume find_unused_parameters '
     'randomness.deterministic model.fold_teacher_bn model.calculate_student_loss'),
    (str, 'the name of a file', 'load_from'),
    (str, 'a text', 'experiment_name'),
    (str, 'the name of a folder', 'default_hooks.checkpoint.out_dir'),
    ((str, list, tuple), 'the name of a file, or a list of names', 'model.teacher_ckpt'),
    ((str, list, tuple, dict), 'the name of a folder, or a dict', 'model.teacher_logits'),
    ((str, list, tuple, dict), 'a dict of settings, or a name', 'model.teacher'),
    ((dict, list, tuple), 'a dict of settings, or a list of them', 'val_evaluator test_evaluator '
     'param_scheduler'),
    ((list, tuple), 'a list of numbers, one per channel', 'data_preprocessor.mean '
     'data_preprocessor.std model.data_preprocessor.mean model.data_preprocessor.std'),
]  # fmt: skip
_WHOLE = [  # whole numbers by their lower bound
    (-1, 'default_hooks.checkpoint.interval default_hooks.checkpoint.max_keep_ckpts'),  # never, all
    (0, 'randomness.seed train_dataloader.num_workers val_dataloader.num_workers '
     'test_dataloader.num_workers'),
    (1, 'train_cfg.max_epochs train_cfg.max_iters train_cfg.val_interval train_cfg.val_begin '
     'train_dataloader.batch_size val_dataloader.batch_size test_dataloader.batch_size '
     'auto_scale_lr.base_batch_size optim_wrapper.accumulative_counts '
     'data_preprocessor.num_classes model.data_preprocessor.num_classes '
     'default_hooks.logger.interval'),
]  # fmt: skip


def check_settings(cfg: dict) -> None:
    """Reject invalid values of settings before anything is built.

    Raises:
        ValueError: If a value is out of range or has the wrong type; the message names the setting
            and the expected value.
    """
    for kinds, expected, keys in _TYPES:
        for key in keys.split():
            value = _get(cfg, key)
            if value is not None and not isinstance(value, kinds):
                raise ValueError(f'{key} must be {expected}, got {value!r}')
    for at_least, keys in _WHOLE:
        for key in keys.split():
            check_whole_number(key, _get(cfg, key), at_least, optional=True)
    for name, choices in _CHOICES.items():
        if cfg.get(name) not in choices:
            raise ValueError(f'{name} must be one of {choices}, got {cfg[name]!r}')
    _check_loops(cfg)
    _check_model(_get(cfg, 'model') or {})
    _check_channels(cfg)
    _check_optimizer(cfg)
    _check_schedules(cfg.get('param_scheduler'))
    _check_hooks_and_folders(cfg)
    check_metrics(cfg)


def check_own_parts(cfg: dict) -> None:
    """Build the hooks and losses of this package, which reject values that they cannot use.

    Raises:
        ValueError: If one of them does, or a schedule does not fit the losses.
    """
    losses = _build_own(cfg, 'model.distiller.distill_losses', mmrazor.registry.MODELS)
    train_cfg = cfg.get('train_cfg') or {}
    for path in ('default_hooks', 'custom_hooks'):
        for hook in _build_own(cfg, path, mmengine.registry.HOOKS).values():
            if isinstance(hook, LossScheduleHook):
                if losses:  # a distiller of the user's own may have others
                    hook.check_losses(losses)
                length = train_cfg.get('max_epochs' if hook.by_epoch else 'max_iters')
                if length is not None:
                    hook.set_length(length)


def _build_own(cfg: dict, path: str, registry: Registry) -> dict[Any, Any]:
    """Hooks or losses by their names or indices; None for those of other packages."""
    found = _get(cfg, path) or {}
    built: dict[Any, Any] = {}
    for name, settings in found.items() if isinstance(found, dict) else enumerate(found):
        arguments = dict(settings) if isinstance(settings, dict) else {}
        kind = arguments.pop('type', None)
        kind = registry.get(kind) if isinstance(kind, str) else kind
        built[name] = None
        if kind is None or not kind.__module__.startswith('prkd_mm.'):
            continue
        for handled_elsewhere in ('priority', '_scope_'):
            arguments.pop(handled_elsewhere, None)
        try:
            built[name] = kind(**arguments)
        except TypeError as error:
            raise ValueError(f'{path}.{name}: {error}') from error
    return built


def _get(cfg: dict, key: str) -> Any:
    """Value of a dotted key, or None; raises for a part that is not a dict."""
    node: Any = cfg
    path = ''
    for name in key.split('.'):
        if node is None:
            return None
        if not isinstance(node, dict):
            raise ValueError(f'{path} must be a dict of settings, got {node!r}')
        node, path = node.get(name), f'{path}.{name}'.lstrip('.')
    return node


def _check_loops(cfg: dict) -> None:
    functions = mmengine.registry.FUNCTIONS
    loops = mmpretrain.registry.LOOPS, mmrazor.registry.LOOPS
    for phase in ('train', 'val', 'test'):
        name = f'{phase}_dataloader'
        loader = cfg.get(name) or {}
        if loader and not loader.get('dataset'):
            raise ValueError(f'{name} has no dataset')
        for function in ('collate_fn', 'worker_init_fn'):
            _check_type(loader.get(function), f'{name}.{function}', 'function', functions)
        _check_type(cfg.get(f'{phase}_cfg'), f'{phase}_cfg', 'loop', *loops)
    _check_validation_of_teacher(cfg)
    train_cfg = cfg.get('train_cfg') or {}
    intervals = train_cfg.get('dynamic_intervals') or []
    for pair in intervals if isinstance(intervals, (list, tuple)) else [intervals]:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(map(is_number, pair)):
            raise ValueError(
                'train_cfg.dynamic_intervals must be a list of pairs (first epoch, interval), got '
                f'{intervals!r}'
            )
    length = 'max_epochs' if train_cfg.get('by_epoch', True) else 'max_iters'
    if train_cfg and 'type' not in train_cfg and train_cfg.get(length) is None:
        raise ValueError(f'train_cfg has no {length}')


def _check_validation_of_teacher(cfg: dict) -> None:
    """Reject MMRazor's loop that validates the teacher after each epoch, where it fails."""
    if not is_type(cfg.get('val_cfg') or {}, 'SingleTeacherDistillValLoop'):
        return
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    reason = ''
    if is_type(_get(cfg, 'model') or {}, 'FrozenTeacherDistill'):
        reason = 'calls a method that the teacher of FrozenTeacherDistill does not have'
    elif any(isinstance(hook, dict) and is_type(hook, 'EMAHook') for hook in hooks):
        # mmrazor/engine/runner/distill_val_loop.py
        reason = 'calls before_val_epoch twice, so that EMAHook trains on with the averaged weights'
    if reason:
        raise ValueError(
            f'val_cfg.type: SingleTeacherDistillValLoop {reason}; set '
            "val_cfg=dict(_delete_=True, type='ValLoop'), and add dict(type='TeacherCheckHook'), "
            'which validates the teacher once'
        )


def _check_type(settings: Any, key: str, what: str, *registries: Registry) -> None:
    """Reject the name of a class or function that is not registered."""
    kind = settings.get('type') if isinstance(settings, dict) else None
    if isinstance(kind, str) and not any(registry.get(kind) for registry in registries):
        parents = {registry.parent or registry for registry in registries}
        known = {name for each in (*registries, *parents) for name in each.module_dict}
        advice = 'omit it, or use another; ' if what == 'loop' else ''
        raise ValueError(f'{key}.type: there is no {what} {kind!r}; {advice}{nearest(kind, known)}')


def _check_model(model: dict) -> None:
    for name in ('architecture', 'distiller'):
        if name in model and not model[name]:
            raise ValueError(f'model has no {name}')
    logits = model.get('teacher_logits')
    if 'teacher' in model and not model['teacher'] and not logits:
        raise ValueError('model has no teacher; set model.teacher, or model.teacher_logits')
    if isinstance(logits, dict):
        _check_keys(logits, 'model.teacher_logits', _LOGITS)
        for name, at_least in (('views', 1), ('topk', 0)):
            value = logits.get(name)
            check_whole_number(f'model.teacher_logits.{name}', value, at_least, optional=True)


def _check_keys(settings: dict, key: str, known: set[str]) -> None:
    for name in settings.keys() - known:
        raise ValueError(f'{key} has no {name!r}; {nearest(name, known)}')


def _check_channels(cfg: dict) -> None:
    """Compare the channels of the normalization with each other and with the student's input."""
    channels = in_channels(cfg.get('model') or {})
    check_whole_number('in_channels of the backbone', channels, optional=True)
    for key in ('data_preprocessor', 'model.data_preprocessor'):
        mean, std = (_get(cfg, f'{key}.{name}') for name in ('mean', 'std'))
        for value in std or []:
            _check_number(f'{key}.std', value)
        if (mean is None) != (std is None):
            raise ValueError(f'{key} must have both mean and std, or neither of them')
        if mean is None or std is None:
            continue
        if len(mean) != len(std):
            raise ValueError(
                f'{key}: mean and std must have one number per channel, got {len(mean)} and '
                f'{len(std)} numbers'
            )
        if channels is not None and len(mean) not in (1, channels):
            raise ValueError(
                f'{key}.mean has {len(mean)} numbers, but in_channels of the backbone is {channels}'
            )


def _check_optimizer(cfg: dict) -> None:
    path = 'optim_wrapper.optimizer'
    _check_keys(_get(cfg, 'optim_wrapper.clip_grad') or {}, 'optim_wrapper.clip_grad', _CLIP_GRAD)
    _check_number('optim_wrapper.clip_grad.max_norm', _get(cfg, 'optim_wrapper.clip_grad.max_norm'))
    _check_number(f'{path}.lr', _get(cfg, f'{path}.lr'))
    for name in ('weight_decay', 'momentum'):
        _check_number(f'{path}.{name}', _get(cfg, f'{path}.{name}'), zero_allowed=True)
    _check_type(_get(cfg, path), path, 'optimizer', mmpretrain.registry.OPTIMIZERS)


def _check_schedules(schedules: Any) -> None:
    several = isinstance(schedules, (list, tuple))
    for i, schedule in enumerate(schedules if several else [schedules]):
        if not isinstance(schedule, dict) or 'type' not in schedule:
            continue  # schedules of several optimizers
        path = f'param_scheduler.{i}' if several else 'param_scheduler'
        for name in ('gamma', 'factor', 'start_factor', 'end_factor', 'eta_min'):
            _check_number(f'{path}.{name}', schedule.get(name), zero_allowed=True)
        for name, at_least in dict(T_max=1, step_size=1, total_steps=1, begin=0, end=0).items():
            check_whole_number(f'{path}.{name}', schedule.get(name), at_least, optional=True)
        milestones = schedule.get('milestones', [])
        if not isinstance(milestones, (list, tuple)):
            raise ValueError(
                f'{path}.milestones must be a list of whole numbers, got {milestones!r}'
            )
        for milestone in milestones:
            check_whole_number(f'{path}.milestones', milestone, 0)
        begin, end = schedule.get('begin', 0), schedule.get('end')
        if end is not None and end <= begin:
            raise ValueError(f'{path}.end must be above {path}.begin, got {end} and {begin}')
        check_arguments(schedule, path)


def _check_hooks_and_folders(cfg: dict) -> None:
    custom = cfg.get('custom_hooks') or []
    if not isinstance(custom, (list, tuple)) or not all(isinstance(hook, dict) for hook in custom):
        raise ValueError(f'custom_hooks must be a list, such as [dict(type=...)]; got {custom!r}')
    level = cfg.get('log_level')
    if isinstance(level, str) and not isinstance(logging.getLevelName(level), int):
        raise ValueError(f'log_level must be one of {", ".join(_LEVELS)}; got {level!r}')
    _check_tail(cfg, custom)
    checkpoint = _get(cfg, 'default_hooks.checkpoint') or {}
    name, folder = checkpoint.get('filename_tmpl'), checkpoint.get('out_dir')
    if name is not None and '{}' not in str(name):
        raise ValueError(
            "default_hooks.checkpoint.filename_tmpl must contain '{}', for the number of the "
            f'epoch, so that no checkpoint replaces another; got {name!r}'
        )
    work_dir = cfg.get('work_dir')
    if not isinstance(work_dir, str) or not work_dir:
        raise ValueError(f'work_dir must be the name of a folder, got {work_dir!r}')
    for key, path in (('default_hooks.checkpoint.out_dir', folder), ('work_dir', work_dir)):
        if isinstance(path, str) and osp.exists(path) and not osp.isdir(path):
            raise ValueError(f'{key} {path!r} is a file, not a folder; choose another name')


def _check_tail(cfg: dict, custom: Sequence[dict]) -> None:
    """Check the number of epochs to average, and ``save_best``, as the hook does too late."""
    total = _get(cfg, 'train_cfg.max_epochs')
    best = _get(cfg, 'default_hooks.checkpoint.save_best')
    for hook in [*(cfg.get('default_hooks') or {}).values(), *custom]:
        if isinstance(hook, dict) and is_type(hook, 'TailAverageHook'):
            check_best(best)
            number = hook.get('num_epochs', 10)
            if total is not None and is_number(number):  # the hook rejects others
                check_tail(number, total)


def _check_number(key: str, value: Any, zero_allowed: bool = False) -> None:
    if value is None:
        return
    bound = 'at least 0' if zero_allowed else 'above 0'
    in_range = is_number(value) and (value > 0 or (value == 0 and zero_allowed))
    if not in_range or not math.isfinite(value):
        raise ValueError(f'{key} must be a finite number, {bound}; got {value!r}')
