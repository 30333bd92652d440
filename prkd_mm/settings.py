"""Check the values of settings before anything is built from them."""

import logging
import math
import os.path as osp
from typing import Any, Optional

import mmengine.registry
import mmpretrain.registry
import mmrazor.registry

from .metric_checks import check_metrics, in_channels
from .number_checks import check_whole_number, is_number
from .overrides import check_arguments, nearest

_CLIP_GRAD = {'type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach', 'clip_value'}
_CHOICES = dict(launcher=(None, 'none', 'pytorch', 'slurm', 'mpi'), sync_bn=(None, 'torch', 'mmcv'))
_LOGITS = {'views', 'folder', 'topk', 'seed', 'identity', 'complete', 'verify'}
_LEVELS = ('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL')


def check_settings(cfg: dict) -> None:
    """Reject invalid values of settings before anything is built.

    Raises:
        ValueError: If a value is out of range or has the wrong type; the
            message names the setting and the expected value.
    """
    for phase in ('train', 'val', 'test'):
        loader = _part(cfg, '', f'{phase}_dataloader')
        _whole(loader, f'{phase}_dataloader', 'batch_size', 1)
        _whole(loader, f'{phase}_dataloader', 'num_workers', 0)
        if loader and not loader.get('dataset'):
            raise ValueError(f'{phase}_dataloader has no dataset')
        _check_functions(loader, f'{phase}_dataloader')
    train_cfg = _part(cfg, '', 'train_cfg')
    for name in ('max_epochs', 'max_iters', 'val_interval', 'val_begin'):
        _whole(train_cfg, 'train_cfg', name, 1)
    _typed(train_cfg, 'train_cfg', 'by_epoch', bool, 'True or False')
    _check_intervals(train_cfg.get('dynamic_intervals') or [])
    length = 'max_epochs' if train_cfg.get('by_epoch', True) else 'max_iters'
    if train_cfg and 'type' not in train_cfg and train_cfg.get(length) is None:
        raise ValueError(f'train_cfg has no {length}')
    for name in ('resume', 'find_unused_parameters'):
        _typed(cfg, '', name, bool, 'True or False')
    _typed(cfg, '', 'load_from', str, 'the name of a file')
    _typed(cfg, '', 'experiment_name', str, 'a text')
    for name, choices in _CHOICES.items():
        if cfg.get(name) not in choices:
            raise ValueError(f'{name} must be one of {choices}, got {cfg[name]!r}')
    for name in ('val_cfg', 'test_cfg', 'env_cfg', 'log_processor', 'visualizer', 'custom_imports'):
        _part(cfg, '', name)
    _check_loops(cfg)
    for name in ('val_evaluator', 'test_evaluator', 'param_scheduler'):
        _typed(cfg, '', name, (dict, list, tuple), 'a dict of settings, or a list of them')
    randomness = _part(cfg, '', 'randomness')
    _whole(randomness, 'randomness', 'seed', 0)
    _typed(randomness, 'randomness', 'deterministic', bool, 'True or False')
    _whole(_part(cfg, '', 'auto_scale_lr'), 'auto_scale_lr', 'base_batch_size', 1)
    _check_model(_part(cfg, '', 'model'))
    _check_channels(cfg)
    _check_optimizer(_part(cfg, '', 'optim_wrapper'))
    check_schedules(cfg.get('param_scheduler'))
    _check_hooks(cfg)
    _check_work_dir(cfg.get('work_dir'))
    check_metrics(cfg)


def _check_functions(loader: dict, path: str) -> None:
    functions = mmengine.registry.FUNCTIONS
    for name in ('collate_fn', 'worker_init_fn'):
        part = loader.get(name)
        kind = part.get('type') if isinstance(part, dict) else None
        if isinstance(kind, str) and '.' not in kind and functions.get(kind) is None:
            hint = nearest(kind, functions.module_dict)
            raise ValueError(f'{path}.{name}.type: there is no function {kind!r}; {hint}')


def _check_intervals(intervals: Any) -> None:
    pairs = intervals if isinstance(intervals, (list, tuple)) else [intervals]
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(map(is_number, pair)):
            raise ValueError(
                'train_cfg.dynamic_intervals must be a list of pairs (first epoch, interval), got '
                f'{intervals!r}'
            )


def _check_loops(cfg: dict) -> None:
    registries = mmpretrain.registry.LOOPS, mmrazor.registry.LOOPS
    for name in ('train_cfg', 'val_cfg', 'test_cfg'):
        kind = (cfg.get(name) or {}).get('type')
        if isinstance(kind, str) and not any(registry.get(kind) for registry in registries):
            known = {each for registry in registries for each in registry.module_dict}
            raise ValueError(
                f'{name}.type: there is no loop {kind!r}; omit it, or use another '
                f'({nearest(kind, known | set(mmengine.registry.LOOPS.module_dict))})'
            )


def _check_model(model: dict) -> None:
    text = (str, list, tuple)
    _typed(model, 'model', 'teacher_ckpt', text, 'the name of a file, or a list of names')
    _typed(model, 'model', 'teacher_logits', (*text, dict), 'the name of a folder, or a dict')
    _typed(model, 'model', 'teacher', (*text, dict), 'a dict of settings, or a name')
    for name in ('fold_teacher_bn', 'calculate_student_loss'):
        _typed(model, 'model', name, bool, 'True or False')
    for name in ('architecture', 'distiller'):
        if name in model and not _part(model, 'model', name):
            raise ValueError(f'model has no {name}')
    _part(model.get('distiller') or {}, 'model.distiller', 'distill_losses')
    logits = model.get('teacher_logits')
    if 'teacher' in model and not model['teacher'] and not logits:
        raise ValueError('model has no teacher; set model.teacher, or model.teacher_logits')
    if isinstance(logits, dict):
        for name in logits.keys() - _LOGITS:
            raise ValueError(f'model.teacher_logits has no {name!r}; {nearest(name, _LOGITS)}')
        _whole(logits, 'model.teacher_logits', 'views', 1)
        _whole(logits, 'model.teacher_logits', 'topk', 0)


def _check_channels(cfg: dict) -> None:
    """Compare the channels of the normalization with each other and with the student's input."""
    model = cfg.get('model') or {}
    channels = in_channels(model)
    check_whole_number('in_channels of the backbone', channels, optional=True)
    for path, owner in (('data_preprocessor', cfg), ('model.data_preprocessor', model)):
        settings = _part(owner, path.rpartition('.')[0], 'data_preprocessor')
        mean, std = (settings.get(name) for name in ('mean', 'std'))
        for name in ('mean', 'std'):
            _typed(settings, path, name, (list, tuple), 'a list of numbers, one per channel')
        _whole(settings, path, 'num_classes', 1)
        for value in std or []:
            _number(dict(std=value), path, 'std', above=0)
        if (mean is None) != (std is None):
            raise ValueError(f'{path} must have both mean and std, or neither of them')
        if mean is None or std is None:
            continue
        if len(mean) != len(std):
            raise ValueError(
                f'{path}: mean and std must have one number per channel, got {len(mean)} and '
                f'{len(std)} numbers'
            )
        if channels is not None and len(mean) not in (1, channels):
            raise ValueError(
                f'{path}.mean has {len(mean)} numbers, but in_channels of the backbone is '
                f'{channels}'
            )


def _check_optimizer(wrapper: dict) -> None:
    _whole(wrapper, 'optim_wrapper', 'accumulative_counts', 1)
    _typed(wrapper, 'optim_wrapper', 'clip_grad', dict, 'a dict, such as dict(max_norm=5)')
    clip = wrapper.get('clip_grad') or {}
    _number(clip, 'optim_wrapper.clip_grad', 'max_norm', above=0)
    for name in set(clip) - _CLIP_GRAD:
        raise ValueError(f'optim_wrapper.clip_grad has no {name!r}; {nearest(name, _CLIP_GRAD)}')
    _part(wrapper, 'optim_wrapper', 'paramwise_cfg')
    optimizer = _part(wrapper, 'optim_wrapper', 'optimizer')
    _number(optimizer, 'optim_wrapper.optimizer', 'lr', above=0)
    for name in ('weight_decay', 'momentum'):
        _number(optimizer, 'optim_wrapper.optimizer', name, at_least=0)
    kind, registry = optimizer.get('type'), mmpretrain.registry.OPTIMIZERS
    if isinstance(kind, str) and '.' not in kind and registry.get(kind) is None:
        known = (*registry.module_dict, *registry.parent.module_dict)
        raise ValueError(f'there is no optimizer {kind!r}; {nearest(kind, known)}')


def check_schedules(schedules: Any) -> None:
    """Reject schedules of the learning rate whose numbers are invalid.

    Args:
        schedules: The ``param_scheduler`` of a config.

    Raises:
        ValueError: As in :func:`check_settings`.
    """
    several = isinstance(schedules, (list, tuple))
    for i, schedule in enumerate(schedules if several else [schedules]):
        if not isinstance(schedule, dict) or 'type' not in schedule:
            continue  # schedules of several optimizers
        path = f'param_scheduler.{i}' if several else 'param_scheduler'
        for name in ('gamma', 'factor', 'start_factor', 'end_factor', 'eta_min'):
            _number(schedule, path, name, at_least=0)
        for name in ('T_max', 'step_size', 'total_steps'):
            _whole(schedule, path, name, 1)
        for name in ('begin', 'end'):
            _whole(schedule, path, name, 0)
        _check_milestones(schedule, path)
        begin, end = schedule.get('begin', 0), schedule.get('end')
        if end is not None and end <= begin:
            raise ValueError(f'{path}.end must be above {path}.begin, got {end} and {begin}')
        check_arguments(schedule, path)


def _check_milestones(schedule: dict, path: str) -> None:
    milestones = schedule.get('milestones', [])
    if not isinstance(milestones, (list, tuple)):
        raise ValueError(f'{path}.milestones must be a list of whole numbers, got {milestones!r}')
    for milestone in milestones:
        _whole(dict(milestones=milestone), path, 'milestones', 0)


def _check_hooks(cfg: dict) -> None:
    hooks = _part(cfg, '', 'default_hooks')
    _whole(_part(hooks, 'default_hooks', 'logger'), 'default_hooks.logger', 'interval', 1)
    checkpoint = _part(hooks, 'default_hooks', 'checkpoint')
    for name in ('interval', 'max_keep_ckpts'):  # -1: never, and all
        _whole(checkpoint, 'default_hooks.checkpoint', name, -1)
    _check_checkpoint_names(checkpoint)
    custom = cfg.get('custom_hooks') or []
    if not isinstance(custom, (list, tuple)) or not all(isinstance(hook, dict) for hook in custom):
        raise ValueError(f'custom_hooks must be a list, such as [dict(type=...)]; got {custom!r}')
    level = cfg.get('log_level')
    if isinstance(level, str) and not isinstance(logging.getLevelName(level), int):
        raise ValueError(f'log_level must be one of {", ".join(_LEVELS)}; got {level!r}')


def _check_checkpoint_names(checkpoint: dict) -> None:
    name, folder = checkpoint.get('filename_tmpl'), checkpoint.get('out_dir')
    if name is not None and '{}' not in str(name):
        raise ValueError(
            "default_hooks.checkpoint.filename_tmpl must contain '{}', for the number of the "
            f'epoch, so that no checkpoint replaces another; got {name!r}'
        )
    if isinstance(folder, str) and osp.exists(folder) and not osp.isdir(folder):
        raise ValueError(f'default_hooks.checkpoint.out_dir {folder!r} is a file, not a folder')


def _check_work_dir(work_dir: Any) -> None:
    if not isinstance(work_dir, str) or not work_dir:
        raise ValueError(f'work_dir must be the name of a folder, got {work_dir!r}')
    if osp.exists(work_dir) and not osp.isdir(work_dir):
        raise ValueError(f'work_dir {work_dir!r} is a file, not a folder; choose another name')


def _part(settings: dict, path: str, name: str) -> dict:
    """A dict within the settings; empty if there is none."""
    _typed(settings, path, name, dict, 'a dict of settings')
    return settings.get(name) or {}


def _typed(settings: dict, path: str, name: str, kinds: Any, expected: str) -> None:
    value = settings.get(name)
    if value is not None and not isinstance(value, kinds):
        raise ValueError(f'{_key(path, name)} must be {expected}, got {value!r}')


def _whole(settings: dict, path: str, name: str, at_least: int) -> None:
    check_whole_number(_key(path, name), settings.get(name), at_least, optional=True)


def _number(
    settings: dict,
    path: str,
    name: str,
    above: Optional[float] = None,
    at_least: Optional[float] = None,
) -> None:
    value = settings.get(name)
    if value is None:
        return
    bound = f'above {above}' if above is not None else f'at least {at_least}'
    if (
        not is_number(value)
        or not math.isfinite(value)
        or (above is not None and value <= above)
        or (at_least is not None and value < at_least)
    ):
        raise ValueError(f'{_key(path, name)} must be a finite number, {bound}; got {value!r}')


def _key(path: str, name: str) -> str:
    return f'{path}.{name}' if path else name
