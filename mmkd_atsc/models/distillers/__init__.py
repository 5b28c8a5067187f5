from .aekt_distiller import AEKTDistiller
from .atsc_distiller import ATSCDistiller
from .multi_teacher_distiller import MultiTeacherDistiller

__all__ = ['AEKTDistiller', 'ATSCDistiller', 'MultiTeacherDistiller']
