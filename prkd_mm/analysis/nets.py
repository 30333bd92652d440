"""Build the student and the trained teacher from a config and checkpoints."""

import copy
from pathlib import Path
from typing import Any, NamedTuple, Union

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from ..algorithms.student_alone import student_alone
from ..checkpoints import load_strictly, plain_state_dict, read
from ..teachers import teacher_of


class Nets(NamedTuple):
    """A student with random weights and its data preprocessor, in evaluation mode."""

    student: nn.Module  # maps inputs to logits
    preprocess: nn.Module  # maps a batch of the loader to inputs and data samples
    teacher: Any = None  # of a pair: trained, maps inputs of the student to logits


def build_nets(cfg: Config, device: Union[str, torch.device] = 'cpu') -> Nets:
    """Build the student of a distillation, or a net trained alone."""
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    net = MODELS.build(student_alone(cfg)).to(device).eval()
    return Nets(getattr(net, 'architecture', net), net.data_preprocessor)


def build_pair(cfg: Config, device: Union[str, torch.device] = 'cpu') -> Nets:
    """Build the student and the trained teacher of a distillation.

    Raises:
        ValueError: If the config has no teacher.
        FileNotFoundError: If the teacher's checkpoint is missing.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    name = f' {cfg.filename!r}' if cfg.filename else ''
    missing = (
        f'this study needs a teacher, but the config{name} has none; use a distillation config'
    )
    if 'distiller' not in cfg.model:
        raise ValueError(missing)
    model = copy.deepcopy(cfg.model)
    model.pop('teacher_logits', None)  # they exist for augmented training images only
    model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    net = MODELS.build(model).to(device).eval()
    teacher = teacher_of(net)
    if teacher is None:
        raise ValueError(missing)
    return Nets(net.architecture, net.data_preprocessor, teacher.logits)


def load_weights(net: nn.Module, path: Union[str, Path]) -> nn.Module:
    """Strictly load a plain checkpoint, or the student of a training checkpoint."""
    load_strictly(net, plain_state_dict(read(str(path)))[0], f'The checkpoint {str(path)!r}')
    return net
