"""Build the teacher that a config describes."""

import logging
from typing import Any, NamedTuple, Optional, Union

from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmrazor.registry import MODELS
from torch import nn

from ..cli import command_of
from ..randomness import untouched_random_state
from .fill_store import default_folder
from .filling_teacher import FillingTeacher, fills_a_store, is_complete
from .frozen_teacher import FrozenTeacher, MissingWeights, fold_batch_norms, load_teacher
from .logit_arrays import choose_topk
from .logit_store import TeacherLogits
from .mean_teacher import MeanTeacher
from .source_teacher import SourceTeacher
from .sources import is_source
from .stored_teacher import StoredTeacher, on_all_ranks
from .teacher import Teacher
from .zoo import load_from_zoo

Net = Union[BaseModel, dict, str, None]


class Spec(NamedTuple):
    """One teacher, as the arguments of ``FrozenTeacherDistill`` describe it.

    ``logits`` is the folder of its stored logits, or the arguments of :class:`TeacherLogits`; or
    ``dict(views=K, ...)``, the arguments of :class:`FillingTeacher`, to fill a store during the
    run.
    """

    teacher: Net  # the net, its config, or the name of its source; not used with `logits`
    checkpoint: Optional[str] = None  # a file, a URL or a work dir
    config: Optional[str] = None  # the config that trains the teacher, for error messages
    logits: Union[str, dict, None] = None

    @property
    def has_lists(self) -> bool:
        """Whether lists describe several teachers."""
        return any(isinstance(value, list) for value in self)

    def split(self) -> list['Spec']:
        """Split lists of arguments, of the same length, into one description per teacher."""
        if self.logits is not None and not isinstance(self.logits, list):
            return [self]  # one store, even of the mean of several teachers
        lengths = {len(value) for value in self if isinstance(value, list)}
        if not lengths:
            return [self]
        if len(lengths) > 1 or 0 in lengths:
            raise ValueError(
                'FrozenTeacherDistill: teacher, teacher_ckpt, teacher_config and teacher_logits '
                f'must be lists of the same length, got the lengths {sorted(lengths)}'
            )
        columns = [v if isinstance(v, list) else [v] * min(lengths) for v in self]
        return [Spec(*row) for row in zip(*columns)]


def build_teachers(
    spec: Spec,
    mean: Optional[dict] = None,
    fold_bn: bool = False,
    num_classes: Optional[int] = None,
) -> Teacher:
    """Build one teacher, or the mean of several.

    Args:
        spec: Description of the teacher; lists describe several teachers.
        mean: Arguments of :class:`MeanTeacher`.
        fold_bn: Whether to fold batch norms into convolutions.
        num_classes: The student's number of classes.

    Raises:
        FileNotFoundError: If there is no such checkpoint, file or store.
        ValueError: If the weights would be random, or do not match the net.
    """
    if mean is not None and not spec.has_lists:
        raise ValueError('FrozenTeacherDistill: teacher_mean needs a list of teachers')
    # A seed produces the same student with and without a teacher.
    with untouched_random_state():
        if fills_a_store(spec.logits):
            teacher = _filling(spec, mean, fold_bn, num_classes)
        else:
            teachers = [_build_teacher(each, mean, fold_bn, num_classes) for each in spec.split()]
            teacher = teachers[0] if len(teachers) == 1 else MeanTeacher(teachers, **mean or {})
    teacher.students_classes = num_classes
    return teacher.requires_grad_(False)


def _filling(spec: Spec, mean: Optional[dict], *how: Any) -> Teacher:
    """A teacher that fills a store, or replays it if it is already complete."""
    options = dict(spec.logits)
    model = dict(teacher=spec.teacher, teacher_ckpt=spec.checkpoint, teacher_config=spec.config)
    default = default_folder(dict(model, teacher_mean=mean), options['views'])
    folder = options.pop('folder', None) or default
    if on_all_ranks(is_complete(folder)):  # another run may complete it meanwhile
        stored = _stored(spec._replace(logits=str(folder)), mean, *how)
        classes = stored.store.num_classes
        expected = dict(views=options['views'], topk=choose_topk(options.get('topk'), classes))
        stored.store.check(seed=options.get('seed', 0), **expected)
        return stored
    live = build_teachers(spec._replace(logits=None), mean, *how)
    return FillingTeacher(live, folder, **options)


def _build_teacher(
    spec: Spec, mean: Optional[dict], fold_bn: bool, num_classes: Optional[int]
) -> Teacher:
    """A live teacher, or one that replays its stored logits."""
    if spec.logits is not None:
        return _stored(spec, mean, fold_bn, num_classes)
    teacher = _from_source(spec, num_classes) or _from_config(spec)
    if fold_bn:
        fold_batch_norms(teacher.net)
    return teacher


def teacher_of(model: nn.Module) -> Optional[Teacher]:
    """The teacher of a distillation algorithm, or None if it has none."""
    teacher = getattr(model, 'teacher', None)
    if teacher is None or isinstance(teacher, Teacher):
        return teacher
    return FrozenTeacher(teacher)  # a bare net in MMRazor's SingleTeacherDistill


def _from_source(spec: Spec, num_classes: Optional[int]) -> Optional[FrozenTeacher]:
    """The teacher if a library, a file, or the model zoo provides it; else None."""
    source, options = spec.teacher, {}
    if isinstance(source, dict) and 'source' in source:
        options = dict(source)
        source = options.pop('source')
    if isinstance(source, str) and is_source(source):
        options = dict(dict(num_classes=num_classes), **options)
        return SourceTeacher(source, spec.checkpoint, **options)
    if isinstance(source, str):
        return load_from_zoo(source, spec.checkpoint, **options)
    return None


def _from_config(spec: Spec) -> FrozenTeacher:
    net = spec.teacher
    hint = f'. To train it:\n  {command_of("train.py")} {spec.config}' if spec.config else ''
    if isinstance(net, dict):
        if spec.checkpoint is None and not net.get('pretrained'):
            raise MissingWeights(
                'FrozenTeacherDistill: teacher_ckpt is missing, so the teacher would have random '
                f"weights; set it to the teacher's checkpoint{hint}"
            )
        net = MODELS.build(net)
    return (
        FrozenTeacher(net) if spec.checkpoint is None else load_teacher(net, spec.checkpoint, hint)
    )


def _stored(
    spec: Spec, mean: Optional[dict], fold_bn: bool, num_classes: Optional[int]
) -> StoredTeacher:
    options = dict(folder=spec.logits) if isinstance(spec.logits, str) else spec.logits
    store = TeacherLogits(**options)  # type: ignore[arg-type]
    live = _if_available(spec._replace(logits=None), mean, num_classes)
    if live is not None:
        store.check(teacher=live.fingerprint())
    status = 'weights verified' if live else 'not verified, because it is not available'
    print_log(
        f'Using stored teacher logits from {store.folder} ({store.views} views of '
        f'{store.header["images"]:,} images; teacher {status})',
        logger='current',
        level=logging.INFO if live else logging.WARNING,
    )
    return StoredTeacher(store, live)


def _if_available(
    spec: Spec, mean: Optional[dict], num_classes: Optional[int]
) -> Optional[Teacher]:
    """The live teacher, or None if its weights, its library or its code are not available."""
    if spec.teacher is None:
        return None
    try:
        return build_teachers(spec, mean if spec.has_lists else None, num_classes=num_classes)
    except (OSError, ImportError, MissingWeights):
        return None
    except KeyError as error:
        if 'registry' not in str(error):
            raise
        return None  # the class of its net is not registered
