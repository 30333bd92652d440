"""Read a config with a method and overrides: what all tools share."""

import argparse
import os
import os.path as osp
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from .cli import ConfigOptions
from .overrides import check_overrides, check_settings, nearest

# the default hooks of MMEngine, which can be switched off by None
_DEFAULT_HOOKS = (
    'runtime_info',
    'timer',
    'sampler_seed',
    'logger',
    'param_scheduler',
    'checkpoint',
)
METHOD_VARIABLE = 'PRKD_METHOD'  # which `_base_/methods` file a config takes

METHODS = dict(
    ce='student alone',
    logit='logit matching',
    kd='KD',
    dist='DIST',
    cor='correlation only',
    prkd_a='PRKDa',
    prkd_b='PRKDb',
    prkd='PRKD',
    prkd_to_1_16='PRKD to 1/16',
    prkd_to_1_4='PRKD to 1/4',
    prkd_to_1='PRKD to 1',
    prkd_to_2='PRKD to 2',
)


def seed_suffix(seed: int) -> str:
    """Suffix of the work dir of a seed; empty for seed 0."""
    return f'_seed{seed}' if seed else ''


def is_type(cfg: dict, name: str) -> bool:
    """Whether a config builds the class ``name``, whatever scope precedes it."""
    kind = cfg.get('type')
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2] == name


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that MMRazor's train and test tools have in common."""
    parser.add_argument(
        '--work-dir',
        help='where to write; default: ./work_dirs/<name of the config>; for tests, test/ in it',
    )
    parser.add_argument(
        '--method',
        help='ce, logit, kd, dist, cor, prkd_a, prkd_b or prkd: a file of '
        'configs/_base_/methods; default: what the config says',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        metavar='KEY=VALUE',
        help='override settings of the config, as train_cfg.max_epochs=3 '
        'optim_wrapper.optimizer.lr=0.05 or, with lists, key="[a,b]"',
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
    """Path of a config: as given, or among those that come with the package.

    Args:
        path: A file; ``configs/prkd/<name>.py`` or ``prkd_mm::prkd/<name>.py``,
            which also work outside of a checkout.

    Raises:
        FileNotFoundError: If there is no such config.
    """
    if osp.isfile(path):
        return path
    package = osp.join(osp.dirname(osp.abspath(__file__)), '.mim')
    shipped = osp.join(package, path.replace('prkd_mm::', 'configs/', 1))
    if osp.isfile(shipped):
        return shipped
    raise FileNotFoundError(
        f'there is no config {path!r}; those of the package are in {osp.join(package, "configs")}'
    )


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of ``tools/train.py``."""
    parser.add_argument('config', help='the config file')
    add_common_arguments(parser)
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
        help='resume although settings that decide the result have changed',
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
        help='scale the learning rate from the batch size that the config names to the actual one',
    )


def load_config(
    path: str,
    method: Optional[str] = None,
    options: Optional[dict] = None,
    work_dir: Optional[str] = None,
) -> Config:
    """Read a config, choose its method and apply overrides.

    Args:
        path (str): The config file.
        method (str, optional): Name of a file in ``configs/_base_/methods``.
            Defaults to None: that of the variable ``PRKD_METHOD`` or the
            config's own.
        options (dict, optional): Overrides, as
            ``{'train_cfg.max_epochs': 3}``. Defaults to None.
        work_dir (str, optional): Defaults to None: that of the config, or
            ``./work_dirs/<name of the config>``, with the suffix ``_<method>``
            if the method is not the config's own.

    Raises:
        FileNotFoundError: If there is no such config, or no such method.
        ValueError: If the config does not allow the method to be chosen.
    """
    path = find_config(path)
    own_method = read_config(path).get('method')
    cfg = choose_method(path, method)
    if options:
        check_overrides(cfg.to_dict(), options)
        cfg.merge_from_dict(options)
    if work_dir is not None:
        cfg.work_dir = osp.expanduser(work_dir)
    elif cfg.get('work_dir') is None:
        cfg.work_dir = default_work_dir(path, cfg.get('method'), own_method)
    check_settings(cfg.to_dict())
    tidy_for_mmengine(cfg)
    return cfg


def choose_method(path: str, method: Optional[str] = None) -> Config:
    """Read a config with a method in place of its own.

    Args:
        path (str): The config file.
        method (str, optional): Name of the method. Defaults to None: that of
            the variable ``PRKD_METHOD``, where the config allows it.

    Raises:
        FileNotFoundError: If there is no such method.
        ValueError: If the config does not allow the method to be chosen.
    """
    cfg = read_config(path, method or os.environ.get(METHOD_VARIABLE))
    if method and cfg.get('method') != method:
        raise ValueError(
            f'{path} does not let the method be chosen: it has no '
            f"'_base_/methods/{{{{${METHOD_VARIABLE}:prkd}}}}.py' in _base_ "
            '(configs/prkd/ shows it)'
        )
    return cfg


def read_config(path: str, method: Optional[str] = None) -> Config:
    """Read a config file with the method variable set, or unset for None."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')  # MMEngine logs each variable that it reads
    try:
        with environment(**{METHOD_VARIABLE: method}):
            return Config.fromfile(path)
    except FileNotFoundError as error:
        missing = osp.basename(error.filename or str(error)) == f'{method}.py'
        if not method or not missing:
            raise
        raise FileNotFoundError(
            f'there is no method {method!r} (no file {error.filename}); {nearest(method, METHODS)}'
        ) from error
    finally:
        logger.setLevel(level)


@contextmanager
def environment(**values: Optional[str]) -> Iterator[None]:
    """Set environment variables for a while; None unsets one."""
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


def default_work_dir(path: str, method: Optional[str], own_method: Optional[str]) -> str:
    """The work dir of a config that names none.

    Args:
        path (str): The config file.
        method (str, optional): The method that was chosen.
        own_method (str, optional): The method that the config has by itself.
    """
    name = osp.splitext(osp.basename(path))[0]
    suffix = '' if method == own_method else f'_{method}'
    return f'./work_dirs/{name}{suffix}'


def tidy_for_mmengine(cfg: Config) -> None:
    """Remove settings that MMEngine refuses or that make torch warn."""
    hooks = cfg.get('default_hooks') or {}
    for name in [name for name, hook in hooks.items() if hook is None]:
        if name not in _DEFAULT_HOOKS:  # MMEngine accepts None only for its own hooks
            hooks.pop(name)
    if not torch.cuda.is_available():  # torch would warn in every epoch
        for phase in ('train', 'val', 'test'):
            (cfg.get(f'{phase}_dataloader') or {}).pop('pin_memory', None)
