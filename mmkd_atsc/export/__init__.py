"""The student leaves: its config, its checkpoint, ONNX and the other formats, each checked against the training's."""
from .config import student_config
from .formats import FORMATS
from .hook import ExportStudentHook
from .report import ExportReport
from .student import export_student

__all__ = ['FORMATS', 'ExportReport', 'ExportStudentHook', 'export_student', 'student_config']
