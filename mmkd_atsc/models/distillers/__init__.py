from .aekt_distiller import AEKTDistiller
from .atsc_distiller import ATSCDistiller

__all__ = ['AEKTDistiller', 'ATSCDistiller']
