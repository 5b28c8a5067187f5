"""ATSC and AEKT knowledge distillation for MMRazor. Importing it lets MMRazor run on a current PyTorch."""
from .compat import apply_all
from .version import __version__

apply_all()

__all__ = ['__version__']
