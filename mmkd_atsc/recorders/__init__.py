"""Recorders; importing this registers them."""
from .labels_recorder import LabelsRecorder
from .multi_teacher_recorder import MultiTeacherRecorder

__all__ = ['LabelsRecorder', 'MultiTeacherRecorder']
