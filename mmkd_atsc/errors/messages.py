"""Says an exception in one line: what is wrong, and what was probably meant."""
import errno
import inspect
import io
import re
import traceback
from collections.abc import Iterator
from typing import Any

from mmengine import registry as roots

from .checks import TrainingStopped, nearest

# MMEngine's message for a type that is not registered, and Python's for an unknown argument.
UNREGISTERED = re.compile(r"""['"]?(\S+) is not in the (?:\w+::)?([\w ]+) registry""")
UNEXPECTED = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


def types_registered(kind: str | None = None) -> Iterator[tuple[str, Any]]:
    """All types of a kind ('model', 'hook', ...) that are imported now, by name; those of packages with a prefix."""
    waiting = [root for root in vars(roots).values()
               if isinstance(root, roots.Registry) and (kind is None or root.name == kind)]
    while waiting:
        registry = waiting.pop()
        prefix = '' if registry.parent is None else f'{registry.scope}.'
        yield from ((prefix + name, entry) for name, entry in registry.module_dict.items())
        waiting += registry.children.values()


def dicts_of(value: Any, path: str = '') -> Iterator[tuple[str, dict]]:
    """All dictionaries in a config, with their paths: '', 'hooks.0', 'model', 'model.head'."""
    if isinstance(value, dict):
        yield path, value
    for key, inner in value.items() if isinstance(value, dict) else \
            enumerate(value) if isinstance(value, (list, tuple)) else ():
        yield from dicts_of(inner, f'{path}.{key}' if path else str(key))


def describe(error: BaseException) -> str:
    """The message of an exception in one line, with its type where the message alone would not say what is wrong.

    >>> describe(TypeError("Digits.__init__() got an unexpected keyword argument 'splt'"))
    "Digits has no argument 'splt'; did you mean 'split'?"
    """
    message = ' '.join(str(error).split())
    if isinstance(error, KeyError) and (found := UNREGISTERED.match(message)):
        name, kind = found.groups()  # MMEngine goes on with a page on how registries work
        return f'there is no {kind} {name!r}{nearest(name, dict(types_registered(kind)))}'
    if found := UNEXPECTED.match(message):
        owner, argument = found.groups()
        # A type passes on what it does not know to those that it derives from, and they refuse it.
        heirs = [entry for _, entry in types_registered()
                 if owner in (base.__name__ for base in getattr(entry, '__mro__', ()))]
        names = {name for heir in heirs for name in inspect.signature(heir).parameters}
        return f'{owner} has no argument {argument!r}{nearest(argument, sorted(names))}'
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, OSError) and error.errno in FULL_DISK and not error.filename:
        files = [str(value.name) for frame in frames for value in frame.f_locals.values()
                 if isinstance(value, io.IOBase) and hasattr(value, 'name')]
        message = f'{files[-1]}: {message}' if files else message
    no_answer = 'urlopen error' in message or 'Max retries exceeded' in message
    if no_answer and any('.dataset' in frame.f_globals['__name__'] for frame in frames):
        message += ('; there is no data at data_root and it cannot be downloaded: put it there, or set the environment '
                    'variable MMKD_DATA_ROOT or --cfg-options train_dataloader.dataset.data_root=DIR')
    speaks_for_itself = isinstance(error, (ValueError, OSError, TrainingStopped)) and message
    return message if speaks_for_itself else f'{type(error).__name__}: {message}'


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; where it ends in a colon, the second too."""
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return ' '.join(lines[:2]) if lines[0].endswith(':') else lines[0]
