"""ATSC and AEKT knowledge distillation for MMRazor. Importing it makes MMRazor importable on a current PyTorch."""
from .compat import apply_all as _mend_the_stack
from .version import __version__

_mend_the_stack()

__all__ = ['__version__']
