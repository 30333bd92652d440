"""Check that data sets, nets and checkpoints mean the same classes by the same labels."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Optional

from mmengine.runner import Runner
from torch import nn

from ..evaluation import unwrap
from ..teachers import Teacher
from .metric_checks import num_classes

_SHOWN = 5  # class names listed in a message

Classes = Optional[Sequence[str]]


def classes_of(dataset: Any) -> Classes:
    """Names of the classes of a data set, in the order of the labels, or None without names."""
    names = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    return None if names is None else list(names)


def compare_classes(owner: str, classes: Classes, other: str, others: Classes) -> list[str]:
    """Compare the class names of ``owner`` and ``other``; returns messages for the user.

    Names are compared only if both have them. A name that one of them lacks is allowed, since the
    same class can have two names, and a test set need not have all classes.

    Raises:
        ValueError: If both have a name, but at different indices, so that the labels of one mean
            other classes in the other.
    """
    if not classes or not others:
        return []
    indices, their_indices = _indices(classes), _indices(others)
    for name in their_indices:
        # lists of ImageNet's names have 'crane' once or twice
        if name in indices and not indices[name] & their_indices[name]:
            index = min(their_indices[name])
            raise ValueError(
                f'{name!r} is class {index} of {other}, but class {min(indices[name])} of {owner}, '
                'so their labels mean different classes, '
                f'({_some(others)}) and ({_some(classes)}). '
                'Give both the same class folders'
            )
    missing = [name for name in indices if name not in their_indices]
    if not missing:
        return []
    return [f'{other} has no class with the name {_some(missing)}, as {owner} has']


def teachers_classes(teacher: Optional[nn.Module]) -> list[Classes]:
    """Names of the classes of a teacher, or of each of several."""
    modules = teacher.modules() if isinstance(teacher, Teacher) else ()
    return [each.classes for each in modules if isinstance(each, Teacher)]


def check_classes(runner: Runner) -> list[str]:
    """Compare the classes of the training set with the net, its teacher and the validation set.

    Returns messages for the user.

    Raises:
        ValueError: If the training set has a single class, or more than the net, or if the teacher
            or the validation set has them in another order.
    """
    classes = classes_of(runner.train_dataloader.dataset)
    model = unwrap(runner.model)
    hidden = [name for name in classes or [] if str(name).startswith('.')]
    notes = [f'hidden folders are classes, too: {_some(hidden)}; remove them'] if hidden else []
    if classes is not None and len(classes) == 1:
        raise ValueError(
            f'the training set has a single class, {classes[0]!r}, so there is nothing to learn; '
            'its images need one folder per class'
        )
    if runner.val_loop is not None:
        validated = classes_of(runner.val_dataloader.dataset)
        notes += compare_classes('the training set', classes, 'the validation set', validated)
    for each in teachers_classes(getattr(model, 'teacher', None)):
        notes += compare_classes('the training set', classes, 'the teacher', each)
    number = num_classes(model)
    if classes is None or number is None or number == len(classes):
        return notes
    text = f'the training set has {len(classes)} classes, but num_classes of the head is {number}'
    if number < len(classes):
        raise ValueError(
            f'{text}; set num_classes of the student, and of its teacher, or remove folders that '
            f'are no classes. The classes: {_some(classes)}'
        )
    return [*notes, f'{text}; the additional classes have no images']


def _indices(names: Sequence[str]) -> dict[str, set[int]]:
    indices: dict[str, set[int]] = defaultdict(set)
    for index, name in enumerate(names):
        indices[name].add(index)
    return indices


def _some(names: Sequence[str]) -> str:
    shown = '; '.join(map(str, names[:_SHOWN]))  # a name may contain commas
    return shown if len(names) <= _SHOWN else f'{shown}; …'
