"""Build the student and the trained teacher from a config and checkpoints."""

import copy
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Union

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from ..algorithms.student_alone import student_alone
from ..checkpoints import load_strictly, plain_state_dict, read
from ..teachers import teacher_of


class Nets(NamedTuple):
    """The nets of a config, on one device and in evaluation mode."""

    student: nn.Module  # maps inputs to logits; its weights are random
    preprocess: nn.Module  # maps a batch of the loader to inputs and data samples
    teacher: Optional[Callable[[Tensor], Tensor]] = None  # maps inputs of the student to logits


def build_nets(
    cfg: Config, device: Union[str, torch.device] = 'cpu', with_teacher: bool = False
) -> Nets:
    """Build the student of a config, and its trained teacher if ``with_teacher``.

    Args:
        cfg: The config of a distillation, or of a net trained alone.
        device: Device for the nets.
        with_teacher: Whether to load the teacher, too.

    Raises:
        ValueError: If ``with_teacher`` is True and the config has no teacher.
        FileNotFoundError: If the teacher's checkpoint is missing.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    if not with_teacher:
        net = MODELS.build(student_alone(cfg)).to(device).eval()
        return Nets(getattr(net, 'architecture', net), net.data_preprocessor)
    if 'distiller' not in cfg.model:
        name = f' {cfg.filename!r}' if cfg.filename else ''
        raise ValueError(
            f'this study needs a teacher, but the config{name} has none; use a distillation config'
        )
    model = copy.deepcopy(cfg.model)
    model.pop('teacher_logits', None)  # they exist for augmented training images only
    model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    net = MODELS.build(model).to(device).eval()
    return Nets(net.architecture, net.data_preprocessor, teacher_of(net).logits)


def load_weights(net: nn.Module, path: Union[str, Path]) -> nn.Module:
    """Strictly load a plain checkpoint, or the student of a training checkpoint."""
    load_strictly(net, plain_state_dict(read(str(path)))[0], f'The checkpoint {str(path)!r}')
    return net
