"""What an exception says, in one line: what is wrong, where in the config, and what was probably meant."""
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from mmengine import registry as roots
from mmengine.config import Config

from mmkd_atsc.registry import short_name

from .checks import TrainingStopped, nearest

# What MMEngine says of a type that is not registered, and Python of an argument that there is not.
UNREGISTERED = re.compile(r"""['"]?(\S+) is not in the (?:\w+::)?([\w ]+) registry""")
UNEXPECTED = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")


def types_registered(kind: str | None = None) -> Iterator[tuple[str, Any]]:
    """All types of a kind ('model', 'hook', ...) that are imported now, by name; those of packages with a prefix.

    >>> 'mmkd_atsc.Digits' in dict(types_registered('dataset'))
    True
    """
    waiting = [root for root in vars(roots).values()
               if isinstance(root, roots.Registry) and (kind is None or root.name == kind)]
    while waiting:
        registry = waiting.pop()
        prefix = '' if registry.parent is None else f'{registry.scope}.'
        yield from ((prefix + name, entry) for name, entry in registry.module_dict.items())
        waiting += registry.children.values()


def dicts_of(value: Any, path: str = '') -> Iterator[tuple[str, dict]]:
    """All dictionaries in a config, with their paths.

    >>> [path for path, _ in dicts_of(dict(hooks=[dict(type='A')], model=dict(head=dict())))]
    ['', 'hooks.0', 'model', 'model.head']
    """
    if isinstance(value, dict):
        yield path, value
    for key, inner in value.items() if isinstance(value, dict) else \
            enumerate(value) if isinstance(value, (list, tuple)) else ():
        yield from dicts_of(inner, f'{path}.{key}' if path else str(key))


def describe(error: BaseException, config: Config | None = None) -> str:
    """The message of an exception in one line, with its type where the message alone would not say what is wrong.

    With the config that led to it, the place of an unknown type or argument in it is named.

    >>> describe(KeyError('epoch'))
    "KeyError: 'epoch'"
    >>> describe(ValueError('tau=0 must be\\n greater than 0'))
    'tau=0 must be greater than 0'
    >>> error = TypeError("Digits.__init__() got an unexpected keyword argument 'splt'")
    >>> describe(error, Config(dict(train_dataloader=dict(dataset=dict(type='mmkd_atsc.Digits', splt='train')))))
    "train_dataloader.dataset: Digits has no argument 'splt'; did you mean 'split'?"
    """
    message = ' '.join(str(error).split())
    unregistered = UNREGISTERED.match(str(error.args[0])) if isinstance(error, KeyError) and error.args else None
    unexpected = UNEXPECTED.match(message)
    if unregistered:  # MMEngine goes on with a page on how registries work
        name, kind = unregistered.groups()
        place, _ = _find(config, lambda part: part.get('type') == name)
        return f'{place}there is no {kind} {name!r}{nearest(name, dict(types_registered(kind)))}'
    if unexpected:
        owner, argument = unexpected.groups()
        # A type passes on what it does not know to those that it derives from, and they refuse it.
        place, parts = _find(config, lambda part: argument in part and owner in _family(part.get('type')))
        owner = short_name(parts[0]['type']) if parts else owner
        makers = [entry.__init__ for entry in _family(owner).values()]  # type: ignore[misc]
        names = {name for maker in makers for name in inspect.signature(maker).parameters} - {'self', 'args', 'kwargs'}
        return f'{place}{owner} has no argument {argument!r}{nearest(argument, sorted(names))}'
    if 'urlopen error' in message or 'Max retries exceeded' in message:
        message += ('; there is no data at data_root and it cannot be downloaded: put it there, or set the environment '
                    'variable MMKD_DATA_ROOT or --cfg-options train_dataloader.dataset.data_root=DIR')
    speaks_for_itself = isinstance(error, (ValueError, OSError, TrainingStopped)) and message
    return message if speaks_for_itself else f'{type(error).__name__}: {message}'


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; where it only announces the second, both.

    >>> first_line(RuntimeError("backend='inductor' raised:\\nno such kernel\\nand more"))
    "backend='inductor' raised: no such kernel"
    """
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return ' '.join(lines[:2]) if lines[0].endswith(':') else lines[0]


def _find(config: Config | None, is_meant: Callable[[dict], bool]) -> tuple[str, list[dict]]:
    """The parts of a config that are meant, and the first two of their places, to begin a line with."""
    found = [(path, part) for path, part in dicts_of(config.to_dict() if config else {}) if path and is_meant(part)]
    more = f' and {len(found) - 2} more' if len(found) > 2 else ''
    return (', '.join(path for path, _ in found[:2]) + f'{more}: ' if found else '', [part for _, part in found])


def _family(kind: Any) -> dict[str, type]:
    """A registered type and all that it derives from, by name."""
    name = short_name(kind)
    found = next((entry for registered, entry in types_registered()
                  if short_name(registered) == name and isinstance(entry, type)), None)
    return {name: found, **{entry.__name__: entry for entry in found.__mro__[:-1]}} if found else {}
