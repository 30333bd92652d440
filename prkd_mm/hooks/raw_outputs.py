"""Check that the outputs of teachers can be logits over the student's classes."""

from typing import Callable

import torch
from torch import Tensor

from ..teachers import FrozenTeacher, Teacher

_IMAGES = 64  # enough to tell logits that sum to 1 by chance
_MAX_DEVIATION = 1e-3  # of the sum of probabilities from 1


class RawOutputs:
    """The outputs of live teachers for the first images of a validation.

    A metric cannot see them, since the head of a teacher computes a softmax of whatever they are.
    """

    def __init__(self, teacher: Teacher) -> None:
        self._classes = teacher.students_classes
        self._live = [each for each in teacher.modules() if isinstance(each, FrozenTeacher)]
        self._rows: list[list[Tensor]] = [[] for _ in self._live]
        self._seen = 0

    def watching(self, predict: Callable) -> Callable:
        """Wrap ``predict(inputs, data_samples)``; a ValueError for another number of classes."""

        def predict_and_keep(inputs: Tensor, data_samples: list) -> list:
            if self._seen < _IMAGES:
                self._seen += len(inputs)
                for teacher, rows in zip(self._live, self._rows):
                    self._keep(teacher.logits(inputs), rows)
            return predict(inputs, data_samples)

        return predict_and_keep

    def _keep(self, outputs: object, rows: list[Tensor]) -> None:
        if not isinstance(outputs, Tensor) or outputs.ndim != 2:
            return  # of a net whose head has other outputs
        if self._classes not in (None, outputs.size(1)):
            raise ValueError(
                f'TeacherCheckHook: the student has {self._classes} classes, but the teacher '
                f'computes {outputs.size(1)} outputs per image; use a teacher with the same classes'
            )
        rows.append(outputs.float().cpu())

    def reject_probabilities(self) -> None:
        """Raise a ValueError if a teacher has computed probabilities."""
        for rows in self._rows:
            if rows:
                reject_probabilities(torch.cat(rows))


def reject_probabilities(outputs: Tensor) -> None:
    """Raise a ValueError if all rows of ``outputs``, ``(N, C)``, are probabilities."""
    sums_to_1 = (outputs.sum(1) - 1).abs() <= _MAX_DEVIATION
    if len(outputs) and bool((outputs >= 0).all()) and bool(sums_to_1.all()):
        raise ValueError(
            "TeacherCheckHook: the teacher's outputs are probabilities, not logits: all are at "
            'least 0, and those of each image sum to 1. Their softmax would be almost uniform; '
            'remove the softmax at the end of the net'
        )
