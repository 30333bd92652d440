"""From a command line to a run: what the tools share."""

import argparse
import os
import os.path as osp
from typing import Optional
from unittest import mock

import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger

_MMENGINES_HOOKS = (
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
    logit='student, logit matching',
    kd='student, KD',
    dist='student, DIST',
    prkd_a='student, PRKDa',
    prkd_b='student, PRKDb',
    prkd='student, PRKD',
)


def seed_suffix(seed: int) -> str:
    """Suffix of a seed's work dir; seed 0 has none."""
    return f'_seed{seed}' if seed else ''


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that MMRazor's train and test tools have in common."""
    parser.add_argument(
        '--work-dir',
        help='where to write; default: ./work_dirs/<name of the config>, and in it test/ for tests',
    )
    parser.add_argument(
        '--method',
        help='ce, logit, kd, dist, prkd_a, prkd_b or prkd: a file of '
        'configs/_base_/methods; default: what the config says',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
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
    # torch.distributed.launch writes it with a dash from torch 2.0 on
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def load_config(
    path: str,
    method: Optional[str] = None,
    options: Optional[dict] = None,
    work_dir: Optional[str] = None,
) -> Config:
    """Read a config with a method and overrides put in.

    Args:
        path (str): The config file.
        method (str, optional): Name of a file in ``configs/_base_/methods``.
            Defaults to None: the config's own.
        options (dict, optional): Overrides, as
            ``{'train_cfg.max_epochs': 3}``. Defaults to None.
        work_dir (str, optional): Defaults to None: that of the config, or
            ``./work_dirs/<name of the config>``, with ``_<method>`` behind it
            if the method is not the config's own.

    Raises:
        FileNotFoundError: No such config, or no such method.
        ValueError: The config does not let the method be chosen.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(f'there is no config {path!r}')
    asked, method = method, method or os.environ.get(METHOD_VARIABLE)
    own = cfg = _read(path, None)
    if method:
        cfg = _read(path, method)
    if asked and cfg.get('method') != method:
        raise ValueError(
            f'{path} does not let the method be chosen: it has no '
            f"'_base_/methods/{{{{${METHOD_VARIABLE}:prkd}}}}.py' in _base_ "
            '(configs/prkd/ shows it)'
        )
    if options:
        cfg.merge_from_dict(options)
    if work_dir is not None:
        cfg.work_dir = osp.expanduser(work_dir)
    elif cfg.get('work_dir') is None:
        name = osp.splitext(osp.basename(path))[0]
        if cfg.get('method') != own.get('method'):
            name += f'_{cfg.method}'
        cfg.work_dir = f'./work_dirs/{name}'
    hooks = cfg.get('default_hooks') or {}
    for name in [name for name, hook in hooks.items() if hook is None]:
        if name not in _MMENGINES_HOOKS:  # of others MMEngine takes no None
            hooks.pop(name)
    if not torch.cuda.is_available():  # torch would warn at every epoch
        for phase in ('train', 'val', 'test'):
            (cfg.get(f'{phase}_dataloader') or {}).pop('pin_memory', None)
    return cfg


def _read(path: str, method: Optional[str]) -> Config:
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')  # MMEngine tells of each variable it reads
    try:
        with mock.patch.dict(os.environ):
            os.environ.pop(METHOD_VARIABLE, None)
            if method:
                os.environ[METHOD_VARIABLE] = method
            return Config.fromfile(path)
    except FileNotFoundError as error:
        if not method or f'methods/{method}.py' not in str(error):
            raise
        raise FileNotFoundError(
            f'there is no method {method!r}: no file {error.filename}'
        ) from error
    finally:
        logger.setLevel(level)
