"""Distributed runs: number of processes, and the backend without GPUs."""

import os
from typing import NamedTuple, Optional

from mmengine.config import Config
from mmengine.device import get_device
from torch import distributed

# the variables in which each launcher passes the rank and the number of processes
_VARIABLES = dict(
    pytorch=('RANK', 'WORLD_SIZE'),
    slurm=('SLURM_PROCID', 'SLURM_NTASKS'),
    mpi=('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'),
)


class Processes(NamedTuple):
    """The processes of a run."""

    rank: int = 0  # index of this process
    number: int = 1  # number of processes


def processes_of(launcher: str) -> Processes:
    """Rank and number of processes, from the launcher's environment variables.

    Raises:
        ValueError: If a variable is not set, or has an impossible value.
    """
    if launcher == 'none':
        return Processes()
    names = _VARIABLES[launcher]
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise ValueError(
            f'--launcher {launcher} needs the environment variable {missing[0]}, which the '
            'launcher sets; start the run with tools/dist_train.sh or tools/slurm_train.sh, or '
            'omit the option'
        )
    for name in names:
        if not os.environ[name].isdecimal():
            raise ValueError(
                f'the environment variable {name} must be a number, got {os.environ[name]!r}'
            )
    rank, number = (int(os.environ[name]) for name in names)
    if rank >= number:
        raise ValueError(f'{names[0]} must be below {names[1]}, {number}; got {rank}')
    return Processes(rank, number)


def use_gloo_without_gpu(cfg: Config) -> None:
    """Let the processes of a PyTorch launcher train on the CPU.

    MMEngine assumes GPUs in two places: ``init_dist`` (mmengine/dist/utils.py) selects one, and the
    runner (mmengine/runner/runner.py) wraps the model with ``device_ids``. An existing process
    group avoids the first, and ``model_wrapper_cfg`` the second.

    Raises:
        ValueError: If another launcher started the processes.
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none' or get_device() not in ('cpu', 'mps'):
        return
    if launcher != 'pytorch':
        raise ValueError(
            f'--launcher {launcher} needs a GPU for each process, and PyTorch finds none here; to '
            'train on CPUs, start the processes with tools/dist_train.sh'
        )
    if not distributed.is_initialized():
        distributed.init_process_group('gloo')
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)


def seed_workers_by_epoch(cfg: Config) -> None:
    """Let workers that are started again in each epoch draw other augmentations in each.

    MMPretrain's ``tools/train.py`` makes workers persistent where a config does not say, so stock
    configs rely on that. A ``worker_init_fn`` or ``persistent_workers=True`` of the config stays.
    """
    loader = cfg.train_dataloader
    if loader.get('num_workers') and not loader.get('persistent_workers'):
        loader.setdefault('worker_init_fn', dict(type='seed_worker_by_epoch'))


def check_amp(amp: bool) -> None:
    """Raise a ValueError if mixed precision is requested, and PyTorch finds no GPU."""
    if amp and get_device() == 'cpu':
        raise ValueError('--amp needs a GPU, and PyTorch finds none here; omit the option')


def end_together() -> None:
    """End the process group after the slowest process; without one, do nothing.

    A process that ends first closes its connections, which can abort the others.
    """
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def learning_rate_note(cfg: Config, processes: Processes) -> Optional[str]:
    """Warning if the learning rate does not fit the total batch size, or None.

    ``batch_size`` is the number of images per process. The total that the learning rate is meant
    for is ``auto_scale_lr.base_batch_size``; configs without it are not checked.
    """
    scale = cfg.get('auto_scale_lr') or {}
    base, each = scale.get('base_batch_size'), cfg.train_dataloader.get('batch_size')
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    if not base or not each:
        return None
    # MMEngine (mmengine/runner/runner.py, scale_lr) ignores the accumulated steps
    scaled = base if not scale.get('enable') else each * processes.number
    total = each * processes.number * accumulated
    if total == scaled:
        return None
    times = f' × {accumulated} accumulated' if accumulated > 1 else ''
    advice = '--auto-scale-lr adapts it' if accumulated == 1 else 'set optim_wrapper.optimizer.lr'
    return (
        f'the learning rate is for {scaled} images per step, but this run has {each} × '
        f'{processes.number} processes{times} = {total}; {advice}'
    )
