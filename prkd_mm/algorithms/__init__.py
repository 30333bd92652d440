from .frozen_teacher_distill import FrozenTeacherDistill
from .student_alone import StudentAlone

__all__ = ['FrozenTeacherDistill', 'StudentAlone']
