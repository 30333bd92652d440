"""Runs of several processes: their number, and the backend without GPUs."""

import os
from typing import NamedTuple, Optional

import torch
from mmengine.config import Config
from torch import distributed

# the variables in which each launcher passes the rank and the number of processes
_VARIABLES = dict(
    pytorch=('RANK', 'WORLD_SIZE'),
    slurm=('SLURM_PROCID', 'SLURM_NTASKS'),
    mpi=('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'),
)


class Processes(NamedTuple):
    """The processes of a run.

    Attributes:
        rank (int): Which of them this one is, from 0 on.
        number (int): How many there are.
    """

    rank: int = 0
    number: int = 1


def processes_of(launcher: str) -> Processes:
    """Read a launcher's variables.

    Raises:
        ValueError: If the launcher has not set them.
    """
    if launcher == 'none':
        return Processes()
    names = _VARIABLES[launcher]
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise ValueError(
            f'--launcher {launcher} needs the variable {missing[0]}, which the launcher sets; '
            'start the run by tools/dist_train.sh or tools/slurm_train.sh, or leave the option out'
        )
    return Processes(*(int(os.environ[name]) for name in names))


def use_gloo_without_gpu(cfg: Config) -> None:
    """Let processes of a PyTorch launcher train on the CPU.

    MMEngine selects a GPU in ``init_dist`` (mmengine/dist/utils.py) and wraps
    the model with ``device_ids`` (mmengine/runner/runner.py). It skips the
    first if there is a process group, and takes the second from the config.
    """
    if cfg.get('launcher', 'none') != 'pytorch' or torch.cuda.is_available():
        return
    if not distributed.is_initialized():
        distributed.init_process_group('gloo')
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)


def learning_rate_note(cfg: Config, processes: Processes) -> Optional[str]:
    """A sentence for a learning rate that does not fit the batch size.

    ``batch_size`` counts the images of one process. Only configs with
    ``auto_scale_lr.base_batch_size`` say which total their learning rate is
    for.
    """
    scale = cfg.get('auto_scale_lr') or {}
    base, each = scale.get('base_batch_size'), cfg.train_dataloader.get('batch_size')
    if not base or not each or scale.get('enable') or each * processes.number == base:
        return None
    return (
        f'the learning rate is for {base} images a step, but this run has {each} × '
        f'{processes.number} processes = {each * processes.number}; --auto-scale-lr adapts it'
    )
