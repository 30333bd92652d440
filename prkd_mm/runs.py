"""From a command line to a run: what the tools share."""
import argparse
import os
import os.path as osp
from typing import Optional

from mmengine.config import Config, DictAction

METHOD_VARIABLE = 'PRKD_METHOD'  # which `_base_/methods` file a config takes


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that MMRazor's train and test tools have in common."""
    parser.add_argument('--work-dir', help='where to write; default: '
                        './work_dirs/<name of the config>')
    parser.add_argument(
        '--method',
        help='ce, kd, dist, prkd_a, prkd_b or prkd: a file of '
        'configs/_base_/methods; default: what the config says')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, as train_cfg.max_epochs=3 '
        'optim_wrapper.optimizer.lr=0.05 or, with lists, key="[a,b]"')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher; default: none')
    # torch.distributed.launch writes it with a dash from torch 2.0 on
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0,
        help=argparse.SUPPRESS)


def load_config(path: str,
                method: Optional[str] = None,
                options: Optional[dict] = None,
                work_dir: Optional[str] = None) -> Config:
    """Read a config with a method and overrides put in.

    Args:
        path (str): The config file.
        method (str, optional): Name of a file in ``configs/_base_/methods``.
            Defaults to None: the config's own.
        options (dict, optional): Overrides, as ``{'train_cfg.max_epochs': 3}``.
        work_dir (str, optional): Defaults to None: that of the config, or
            ``./work_dirs/<name of the config>``, with ``_<method>`` behind it
            if the method is not the config's own.

    Raises:
        FileNotFoundError: No such config, or no such method.
        ValueError: The config does not let the method be chosen.
    """
    own = _read(path, None)
    cfg = _read(path, method) if method else own
    if method and cfg.get('method') != method:
        raise ValueError(
            f'{path} does not let --method choose: it has no '
            f"'_base_/methods/{{{{${METHOD_VARIABLE}:prkd}}}}.py' in _base_ "
            '(configs/prkd/ shows it)')
    if options:
        cfg.merge_from_dict(options)
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        other = method is not None and method != own.get('method')
        cfg.work_dir = osp.join('./work_dirs',
                                osp.splitext(osp.basename(path))[0] +
                                (f'_{method}' if other else ''))
    return cfg


def _read(path: str, method: Optional[str]) -> Config:
    previous = os.environ.pop(METHOD_VARIABLE, None)
    chosen = method or previous
    try:
        if chosen:
            os.environ[METHOD_VARIABLE] = chosen
        return Config.fromfile(path)
    finally:
        os.environ.pop(METHOD_VARIABLE, None)
        if previous is not None:
            os.environ[METHOD_VARIABLE] = previous
