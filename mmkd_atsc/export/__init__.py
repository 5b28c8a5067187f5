"""Exports the student: its config, its checkpoint, ONNX and other formats, each compared with the training."""
from .config import student_config
from .formats import FORMATS
from .hook import ExportStudentHook
from .student import ExportReport, export_student

__all__ = ['FORMATS', 'ExportReport', 'ExportStudentHook', 'export_student', 'student_config']
