"""ATSC and AEKT knowledge distillation for MMRazor. Importing it makes MMRazor importable on a current PyTorch."""
import sys

from .version import __version__

# While `python -m mmkd_atsc` is still looking for its module, argv[0] is '-m'. The stack is left alone then, so that
# the report can say what is wrong with a broken one instead of failing with it.
if sys.argv[:1] != ['-m']:
    from .compat import apply_all as _mend_the_stack
    _mend_the_stack()

__all__ = ['__version__']
