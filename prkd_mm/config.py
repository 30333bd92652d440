"""Read a config, choose its method and apply overrides; shared by all tools."""

import argparse
import os
import os.path as osp
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from .checks.overrides import check_overrides, check_types, nearest
from .checks.settings import check_own_parts, check_settings
from .cli import ConfigOptions, first_line
from .methods import METHODS

# MMEngine's default hooks; setting one of them to None switches it off
_DEFAULT_HOOKS = 'runtime_info timer sampler_seed logger param_scheduler checkpoint'.split()
METHOD_VARIABLE = 'PRKD_METHOD'  # environment variable: the `_base_/methods` file of a config


def seed_suffix(seed: int) -> str:
    """Suffix of a seed's work dir; empty for seed 0."""
    return f'_seed{seed}' if seed else ''


def add_common_arguments(parser: argparse.ArgumentParser, work_dir: str) -> None:
    """Add the options that the train and test tools share; ``work_dir`` describes its default."""
    parser.add_argument('--work-dir', help=f'output folder; default: {work_dir}')
    parser.add_argument(
        '--method',
        help=f'training method: {", ".join(METHODS)}, or another file in configs/_base_/methods; '
        'default: the method of the config',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        metavar='KEY=VALUE',
        help='override settings of the config, such as train_cfg.max_epochs=3 '
        'optim_wrapper.optimizer.lr=0.05; write a list as key="[a,b]"',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher; default: none',
    )
    # torch.distributed.launch passes it with a dash since torch 2.0
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def find_config(path: str) -> str:
    """Path of a config file, which may be one that comes with the package.

    ``configs/prkd/<name>.py`` and ``prkd_mm::prkd/<name>.py`` also work outside a checkout.
    """
    if osp.isfile(path):
        return path
    package = osp.join(osp.dirname(osp.abspath(__file__)), '.mim')
    shipped = osp.join(package, path.replace('prkd_mm::', 'configs/', 1))
    if osp.isfile(shipped):
        return shipped
    raise FileNotFoundError(
        f'there is no config {path!r}; the package has its configs in '
        f'{osp.join(package, "configs")}'
    )


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tools/train.py``."""
    parser.add_argument('config', help='the config file')
    add_common_arguments(parser, './work_dirs/<name of the config>')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from this checkpoint; without a name, from the newest intact one in the '
        'work dir',
    )
    parser.add_argument(
        '--allow-changes',
        action='store_true',
        help='resume even if settings that affect the result have changed',
    )
    parser.add_argument(
        '--store-views',
        type=int,
        metavar='K',
        help="store the teacher's logits for K augmented views of each image in the first K "
        'epochs, and train on them without the teacher from then on',
    )
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision (GPU)')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate to the actual batch size, relative to '
        'auto_scale_lr.base_batch_size',
    )


def load_config(
    path: str,
    method: Optional[str] = None,
    options: Optional[dict] = None,
    work_dir: Optional[str] = None,
) -> Config:
    """Read a config, choose its method and apply overrides.

    Args:
        path: The config file.
        method: See :func:`choose_method`.
        options: Overrides, such as ``{'train_cfg.max_epochs': 3}``.
        work_dir: Output folder. Defaults to None: the one in the options; else the one in the
            config, or ``./work_dirs/<name of the config>``, with the suffix ``_<method>`` if the
            method is not that of the config.

    Raises:
        FileNotFoundError: If the config or the method does not exist.
        ValueError: If the method of the config cannot be changed, or a setting is invalid.
    """
    path = find_config(path)
    cfg = choose_method(path, method)
    chosen = method or os.environ.get(METHOD_VARIABLE)
    own_method = (read_config(path) if chosen else cfg).get('method')
    before = cfg.to_dict()
    if options:
        check_overrides(before, options)
        try:
            cfg.merge_from_dict(options)
        except (AttributeError, TypeError, KeyError) as error:
            raise ValueError(
                f'--cfg-options {" ".join(map(str, options))}: a value does not fit the config '
                f'({first_line(error)})'
            ) from error
    if work_dir is not None:
        cfg.work_dir = osp.expanduser(work_dir)
    elif (options or {}).get('work_dir') is None:
        if cfg.get('work_dir') is None:
            cfg.work_dir = f'./work_dirs/{osp.splitext(osp.basename(path))[0]}'
        if cfg.get('method') != own_method:
            cfg.work_dir = f'{str(cfg.work_dir).rstrip("/")}_{cfg.method}'
    check_settings(cfg.to_dict())
    check_types(before, options or {})
    check_own_parts(cfg.to_dict())
    tidy_for_mmengine(cfg)
    return cfg


def choose_method(path: str, method: Optional[str] = None) -> Config:
    """Read a config and replace its method.

    Args:
        path: The config file.
        method: Name of a file in ``configs/_base_/methods``. Defaults to None: the environment
            variable ``PRKD_METHOD``, or the method of the config.

    Raises:
        FileNotFoundError: If the method does not exist.
        ValueError: If the method of the config cannot be changed.
    """
    cfg = read_config(path, method or os.environ.get(METHOD_VARIABLE))
    if method and cfg.get('method') != method:
        raise ValueError(
            f'the method of {path} cannot be changed: the config has no '
            f"'_base_/methods/{{{{${METHOD_VARIABLE}:prkd}}}}.py' in _base_ "
            '(configs/prkd/ shows it)'
        )
    return cfg


def read_config(path: str, method: Optional[str] = None) -> Config:
    """Read a config file with ``PRKD_METHOD`` set to ``method``, or unset for None."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')  # MMEngine logs each variable that it reads
    try:
        with environment(**{METHOD_VARIABLE: method}):
            return Config.fromfile(path)
    except FileNotFoundError as error:
        missing = error.filename or str(error)
        if not method or osp.basename(missing) != f'{method}.py':
            raise FileNotFoundError(
                f'the config {path!r} needs {missing!r}, which does not exist; correct its _base_'
            ) from error
        raise FileNotFoundError(
            f'there is no method {method!r} (no file {error.filename}); {nearest(method, METHODS)}'
        ) from error
    except Exception as error:  # a config is code, which can raise anything
        raise ValueError(
            f'the config {path!r} cannot be read ({type(error).__name__}: {first_line(error)}); '
            'correct the file, or give the path of another one'
        ) from error
    finally:
        logger.setLevel(level)


@contextmanager
def environment(**values: Optional[str]) -> Iterator[None]:
    """Set environment variables within a ``with`` block; None unsets one."""
    before = {name: os.environ.get(name) for name in values}
    _set_variables(values)
    try:
        yield
    finally:
        _set_variables(before)


def _set_variables(values: dict[str, Optional[str]]) -> None:
    for name, value in values.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def tidy_for_mmengine(cfg: Config) -> None:
    """Remove settings that MMEngine rejects or that make torch warn."""
    hooks = cfg.get('default_hooks') or {}
    for name in [name for name, hook in hooks.items() if hook is None]:
        if name not in _DEFAULT_HOOKS:  # MMEngine accepts None only for its own hooks
            hooks.pop(name)
    if not torch.cuda.is_available():  # torch would warn in every epoch
        for phase in ('train', 'val', 'test'):
            (cfg.get(f'{phase}_dataloader') or {}).pop('pin_memory', None)
