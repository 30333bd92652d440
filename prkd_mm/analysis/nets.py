"""Student and trained teacher, from a config and checkpoints."""

import copy
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Union

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from ..checkpoints import load_strictly, plain_state_dict, read


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
    model = copy.deepcopy(cfg.model)
    model.pop('teacher_logits', None)  # of other images than these
    preprocessor = model.get('data_preprocessor', cfg.get('data_preprocessor'))
    if with_teacher and 'distiller' not in model:
        raise ValueError(
            f'this needs a teacher, and the config{_of(cfg)} has none; take that of a distillation'
        )
    if 'architecture' in model and not with_teacher:
        kept = {k: model[k] for k in ('_scope_', 'architecture') if k in model}
        model = dict(kept, type='mmrazor.StudentAlone')
    if preprocessor is not None:
        model['data_preprocessor'] = preprocessor
    net = MODELS.build(model).to(device).eval()
    own_inputs = getattr(net, 'teacher_inputs', lambda inputs: inputs)

    def teacher(inputs: Tensor) -> Tensor:
        return net.teacher(own_inputs(inputs))

    return Nets(
        getattr(net, 'architecture', net), net.data_preprocessor, teacher if with_teacher else None
    )


def _of(cfg: Config) -> str:
    return f' {cfg.filename!r}' if cfg.filename else ''


def load_weights(net: nn.Module, path: Union[str, Path]) -> nn.Module:
    """Load a plain checkpoint, or the student of a training file, strictly."""
    load_strictly(net, plain_state_dict(read(str(path)))[0], f'The checkpoint {str(path)!r}')
    return net
