"""Teachers: live nets, stored logits, and the files of stored logits."""

from .build import Spec, build_teachers, teacher_of
from .filling_teacher import FillingTeacher
from .frozen_teacher import FrozenTeacher
from .mean_teacher import MeanTeacher
from .source_teacher import SourceTeacher
from .stored_teacher import StoredTeacher
from .teacher import Teacher

__all__ = [
    'FillingTeacher',
    'FrozenTeacher',
    'MeanTeacher',
    'SourceTeacher',
    'Spec',
    'StoredTeacher',
    'Teacher',
    'build_teachers',
    'teacher_of',
]
