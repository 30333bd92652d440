"""Teachers: live nets, stored logits, and the files of stored logits."""

from .build import build_teacher, teacher_of
from .frozen_teacher import FrozenTeacher
from .stored_teacher import StoredTeacher
from .teacher import Teacher

__all__ = ['FrozenTeacher', 'StoredTeacher', 'Teacher', 'build_teacher', 'teacher_of']
