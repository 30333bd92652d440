"""Build the teacher that a config describes."""

from contextlib import suppress
from typing import Optional, Union

from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmrazor.registry import MODELS
from torch import nn

from ..checkpoints import plain_state_dict, read, resolve
from ..randomness import untouched_random_state
from .frozen_teacher import FrozenTeacher, fold_batch_norms, load_teacher
from .logit_store import TeacherLogits, hash_of_weights
from .stored_teacher import StoredTeacher
from .teacher import Teacher


def build_teacher(
    teacher: Union[BaseModel, dict, None],
    checkpoint: Optional[str] = None,
    config: Optional[str] = None,
    logits: Union[str, dict, None] = None,
    fold_bn: bool = False,
) -> Teacher:
    """Build a live teacher, or one that replays its stored logits.

    Args:
        teacher: The net or its config; not used with ``logits``.
        checkpoint: Its weights: a file, a URL or a work dir.
        config: The config that trains the teacher, for error messages.
        logits: The folder of its stored logits, or the arguments of
            :class:`TeacherLogits`.
        fold_bn: Whether to fold batch norms into convolutions.

    Raises:
        FileNotFoundError: If there is no such checkpoint or store.
        ValueError: If the weights would be random, or do not match the net.
    """
    if logits is not None:
        return _stored(logits, checkpoint)
    hint = f'. To train it:\n  python tools/train.py {config}' if config else ''
    if isinstance(teacher, dict):
        if checkpoint is None and not teacher.get('pretrained'):
            raise ValueError(
                'FrozenTeacherDistill: teacher_ckpt is missing, so the '
                "teacher would have random weights; give the teacher's "
                f'checkpoint{hint}'
            )
        # A seed produces the same student with and without a teacher.
        with untouched_random_state():
            teacher = MODELS.build(teacher)
    if checkpoint is not None:
        load_teacher(teacher, checkpoint, hint)
    if fold_bn:
        fold_batch_norms(teacher)
    return FrozenTeacher(teacher, checkpoint)


def teacher_of(model: nn.Module) -> Optional[Teacher]:
    """The teacher of a distillation algorithm, or None if it has none."""
    teacher = getattr(model, 'teacher', None)
    if teacher is None or isinstance(teacher, Teacher):
        return teacher
    return FrozenTeacher(teacher)  # a bare net in MMRazor's SingleTeacherDistill


def _stored(logits: Union[str, dict], checkpoint: Optional[str]) -> StoredTeacher:
    store = TeacherLogits(**(dict(folder=logits) if isinstance(logits, str) else logits))
    verified = 'checkpoint not verified'
    with suppress(FileNotFoundError):
        if checkpoint and '://' not in checkpoint:
            state = plain_state_dict(read(checkpoint))[0]
            store.check(teacher=hash_of_weights(state))
            verified = f'those of {resolve(checkpoint)}'
    print_log(
        f'Using stored teacher logits from {store.folder} ({store.views} views of '
        f'{store.header["images"]:,} images; {verified})',
        logger='current',
    )
    return StoredTeacher(store)
