"""ATSC and AEKT knowledge distillation for MMRazor. Importing it makes MMRazor importable on a current PyTorch."""
import sys

from .version import __version__

# While `python -m PACKAGE` is still looking for its module, argv[0] is '-m'. Our own commands mend the stack later:
# `python -m mmkd_atsc` is to say what is wrong with a broken one, not to fail with it; the launcher needs none of it.
_COMMAND = ' '.join(getattr(sys, 'orig_argv', ()))  # Python 3.9 does not keep it, and mends always
if sys.argv[:1] != ['-m'] or '-m mmkd_atsc' not in _COMMAND:
    from .compat import apply_all as _mend_the_stack
    _mend_the_stack()

__all__ = ['__version__']
