"""Recorders; importing this registers them."""
from .multi_teacher_recorder import MultiTeacherRecorder

__all__ = ['MultiTeacherRecorder']
