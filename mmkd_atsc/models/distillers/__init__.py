from .aekt_distiller import AEKTDistiller

__all__ = ['AEKTDistiller']
