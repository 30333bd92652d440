"""Build the student and the trained teacher from a config and checkpoints."""

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Union

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from ..algorithms.student_alone import student_alone
from ..checkpoints import load_strictly, plain_state_dict, read, recorded_classes
from ..checks.class_checks import Classes, compare_classes, teachers_classes
from ..teachers import teacher_of
from .batches import SPLITS, classes_in


class Nets(NamedTuple):
    """A student with random weights and its data preprocessor, in evaluation mode."""

    student: nn.Module  # maps inputs to logits
    preprocess: nn.Module  # maps a batch of the loader to inputs and data samples
    teacher: Any = None  # of a pair: trained, maps inputs of the student to logits
    teachers_classes: Sequence[Classes] = ()  # names for each teacher of a pair, if it has them


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
    return Nets(net.architecture, net.data_preprocessor, teacher.logits, teachers_classes(teacher))


def load_weights(net: nn.Module, path: Union[str, Path]) -> nn.Module:
    """Strictly load a plain checkpoint, or the student of a training checkpoint."""
    load_strictly(net, plain_state_dict(read(str(path)))[0], f'The checkpoint {str(path)!r}')
    return net


def check_class_order(
    cfg: Config,
    checkpoints: Iterable[Union[str, Path]],
    splits: Iterable[str],
    teachers: Iterable[Classes] = (),
) -> None:
    """Compare the classes of checkpoints, and of teachers, with those of the images of a config.

    ``splits`` are as in :func:`~prkd_mm.analysis.batches.load_batches`.

    Raises:
        ValueError: If a class has another label there, so that all accuracies would be wrong.
    """
    owners = [
        (f'the training set of {str(path)!r}', recorded_classes(read(str(path))))
        for path in checkpoints
    ]
    owners += [('the teacher', classes) for classes in teachers]
    for split in splits:
        classes = classes_in(cfg, split)
        for owner, trained in owners:
            compare_classes(owner, trained, SPLITS[split], classes)
