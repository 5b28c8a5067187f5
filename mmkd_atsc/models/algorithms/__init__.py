from .adaptive_teacher_distill import AdaptiveTeacherDistill
from .multi_teacher_distill import MultiTeacherDistill

__all__ = ['AdaptiveTeacherDistill', 'MultiTeacherDistill']
