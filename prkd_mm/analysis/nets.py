"""Student and trained teacher, from a config and checkpoints."""

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
    """What a config describes, on one device and in evaluation mode.

    Attributes:
        student (nn.Module): Inputs to logits; the weights are random.
        preprocess (nn.Module): From a batch of the loader to inputs.
        teacher (Callable, optional): Inputs of the student to the logits of
            the trained teacher.
    """

    student: nn.Module
    preprocess: nn.Module
    teacher: Optional[Callable[[Tensor], Tensor]] = None


def build_nets(
    cfg: Config, device: Union[str, torch.device] = 'cpu', with_teacher: bool = False
) -> Nets:
    """Build the student of a config and, if asked for, its trained teacher.

    Args:
        cfg (Config): Of a distillation, or of a net trained alone.
        device (str | torch.device): Defaults to 'cpu'.
        with_teacher (bool): Load the teacher too. Defaults to False.

    Raises:
        ValueError: ``with_teacher``, and the config has none.
        FileNotFoundError: The teacher's checkpoint is not there.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    if not with_teacher:
        net = MODELS.build(student_alone(cfg)).to(device).eval()
        return Nets(getattr(net, 'architecture', net), net.data_preprocessor)
    if 'distiller' not in cfg.model:
        raise ValueError(
            f'this needs a teacher, and the config{_of(cfg)} has none; take that of a distillation'
        )
    model = copy.deepcopy(cfg.model)
    model.pop('teacher_logits', None)  # of other images than these
    model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    net = MODELS.build(model).to(device).eval()
    return Nets(net.architecture, net.data_preprocessor, teacher_of(net).logits)


def _of(cfg: Config) -> str:
    return f' {cfg.filename!r}' if cfg.filename else ''


def load_weights(net: nn.Module, path: Union[str, Path]) -> nn.Module:
    """Load a plain checkpoint, or the student of a training file, strictly."""
    load_strictly(net, plain_state_dict(read(str(path)))[0], f'The checkpoint {str(path)!r}')
    return net
