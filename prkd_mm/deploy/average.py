"""Compute the averaged student from the epoch checkpoints of a finished run."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, weights_to_cpu
from torch import nn
from torch.utils.data import DataLoader

from ..algorithms.student_alone import student_alone
from ..averaging import State, add_to_sum, load_mean
from ..batch_norm import recalibrate_on_training_images
from ..checkpoints import (
    check_even_spacing,
    epoch_checkpoints,
    load_strictly,
    plain_state_dict,
    read,
)
from ..datasets import BatchClsDataPreprocessor
from ..teachers.filling_teacher import use_views_of_run
from .student_config import describe_if_possible


def last_checkpoints(work_dir: Path, number: int) -> list[Path]:
    """The last ``epoch_N.pth`` of a work dir, oldest first.

    Raises:
        FileNotFoundError: If there are fewer than ``number``, or they are not evenly spaced.
    """
    found = list(epoch_checkpoints(work_dir).items())
    if len(found) < number:
        raise FileNotFoundError(
            f'{work_dir} has {len(found)} checkpoints epoch_N.pth, but {number} are to be '
            'averaged; keep more with --cfg-options '
            f'default_hooks.checkpoint.max_keep_ckpts={number}'
        )
    last = dict(found[-number:])
    check_even_spacing(
        work_dir, last, 'to average those that are there, name the files instead of their folder'
    )
    return list(last.values())


def seed_of_run(checkpoint: dict, cfg: Config, default: int = 0) -> int:
    """Seed of the run that wrote a checkpoint, also if MMEngine drew it for want of one in ``cfg``.

    ``default`` is for a checkpoint without a seed, such as that of an average.
    """
    recorded = checkpoint.get('meta', {}).get('seed')
    seed = (cfg.get('randomness') or {}).get('seed') if recorded is None else recorded
    return default if seed is None else seed


def training_loader(cfg: Config, preprocess: nn.Module, epoch: int, seed: int) -> DataLoader:
    """The training images of a run, for batches as in its 0-based epoch from ``preprocess``."""
    use_views_of_run(cfg, preprocess, epoch, seed)
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=seed)
    if isinstance(preprocess, BatchClsDataPreprocessor):
        preprocess.choose_view(loader.dataset)
    return loader


def average_checkpoints(
    cfg: Config, paths: Sequence[Path], bn: str = 'recalibrate', bn_batches: int = 100
) -> dict:
    """Average students to a plain MMPretrain checkpoint, as ``TailAverageHook`` does in a run.

    Args:
        cfg, paths: Config of the run, and its checkpoints, oldest first.
        bn, bn_batches: As for that hook.

    Raises:
        ValueError: If a checkpoint does not match the net of the config.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    model = MODELS.build(student_alone(cfg)).eval()
    net = getattr(model, 'architecture', model)
    total: State = {}
    for path in paths:
        checkpoint = read(str(path))
        state = plain_state_dict(checkpoint)[0]
        load_strictly(net, state, f'The checkpoint {str(path)!r}')
        add_to_sum(total, state)
    load_mean(net, total, len(paths), state, bn)
    if bn == 'recalibrate':
        seed = seed_of_run(checkpoint, cfg)
        preprocess = model.data_preprocessor
        last_epoch = checkpoint.get('meta', {}).get('epoch', 1) - 1
        train = training_loader(cfg, preprocess, last_epoch, seed)
        recalibrate_on_training_images(net, train, preprocess, seed, bn_batches)
    warn = partial(print_log, logger='current', level=logging.WARNING)
    meta = dict(
        averaged=[path.name for path in paths],
        bn=bn,
        dataset_meta=checkpoint.get('meta', {}).get('dataset_meta', {}),
        **describe_if_possible(cfg, 'the average', warn),
    )
    return dict(meta=meta, state_dict=weights_to_cpu(net.state_dict()))
