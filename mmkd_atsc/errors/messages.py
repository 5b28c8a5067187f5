"""What an exception says, in one line: what is wrong, where in the config, and what was probably meant."""
import difflib
import inspect
import re
from typing import Any, Callable, Iterator, List, Optional, Tuple

from mmengine import registry as roots
from mmengine.config import Config

from mmkd_atsc.registry import short_name

from .checks import TrainingStopped, nearest

# What MMEngine and Python say of a name that is not registered, of an argument that there is not or that is left out,
# of a type that is left out or no name.
UNREGISTERED = re.compile(r"""['"]?(\S+) is not in the (?:\w+::)?([\w ]+) registry""")
UNEXPECTED = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")
MISSING = re.compile(r'(\w+)\.__init__\(\) missing \d+ required (?:positional|keyword-only) arguments?: (.+)')
TYPELESS = 'must contain the key "type", but got '
BAD_TYPE = re.compile('type must be a str or valid type|Failed to get')


def types_registered(kind: Optional[str] = None) -> Iterator[Tuple[str, Any]]:
    """All types of a kind ('model', 'hook', ...) that are imported now, by name; those of packages with a prefix."""
    waiting = [root for root in vars(roots).values()
               if isinstance(root, roots.Registry) and (kind is None or root.name == kind)]
    while waiting:
        registry = waiting.pop()
        prefix = '' if registry.parent is None else f'{registry.scope}.'
        yield from ((prefix + name, entry) for name, entry in registry.module_dict.items())
        waiting += registry.children.values()


def registered(kind: str) -> List[str]:
    """The names of all types of a kind that are imported now.

    >>> 'mmkd_atsc.Digits' in registered('dataset')
    True
    """
    return [name for name, _ in types_registered(kind)]


def dicts_of(value: Any, path: str = '') -> Iterator[Tuple[str, dict]]:
    """All dictionaries in a config, with the way to them.

    >>> [path for path, _ in dicts_of(dict(hooks=[dict(type='A')], model=dict(head=dict())))]
    ['', 'hooks.0', 'model', 'model.head']
    """
    if isinstance(value, dict):
        yield path, value
    for key, inner in value.items() if isinstance(value, dict) else \
            enumerate(value) if isinstance(value, (list, tuple)) else ():
        yield from dicts_of(inner, f'{path}.{key}' if path else str(key))


def is_type(kind: Any) -> bool:
    """Whether a config's ``type`` is what MMEngine can build or call: a name, a class, a function.

    >>> is_type('SGD'), is_type(dict), is_type(''), is_type(1.5)
    (True, True, False, False)
    """
    return callable(kind) or isinstance(kind, str) and bool(kind)


def describe(error: BaseException, config: Optional[Config] = None) -> str:
    """The message of an exception in one line, with its type where the message alone would not say what is wrong.

    With the config that led to it, a name or an argument that nobody knows is found there.

    >>> describe(KeyError('epoch'))
    "KeyError: 'epoch'"
    >>> describe(ValueError('tau=0 must be\\n greater than 0'))
    'tau=0 must be greater than 0'
    >>> error = TypeError("Digits.__init__() got an unexpected keyword argument 'splt'")
    >>> describe(error, Config(dict(train_dataloader=dict(dataset=dict(type='mmkd_atsc.Digits', splt='train')))))
    "train_dataloader.dataset: Digits has no argument 'splt'; did you mean 'split'?"
    """
    message = ' '.join(str(error).split())
    if 'urlopen error' in message or 'Max retries exceeded' in message:
        message += ('; there is no data at data_root and it cannot be downloaded: put it there, or set the environment '
                    'variable MMKD_DATA_ROOT or --cfg-options train_dataloader.dataset.data_root=DIR')
    # A KeyError quotes its text.
    said = ' '.join(str(error.args[0]).split()) if isinstance(error, KeyError) and error.args else message
    speaks_for_itself = isinstance(error, (ValueError, OSError, TrainingStopped)) and message
    return _about_config(said, Places(config)) or (
        message if speaks_for_itself else f'{type(error).__name__}: {message}')


class Places:
    """The dictionaries of a config, by where they stand."""

    def __init__(self, config: Optional[Config]) -> None:
        self.parts = [(path, part) for path, part in dicts_of(config.to_dict() if config else {}) if path]

    def where(self, is_meant: Callable[[dict], bool]) -> Tuple[str, List[dict]]:
        """The parts that are meant, and the first two of their places, to begin a line with."""
        found = [(path, part) for path, part in self.parts if is_meant(part)]
        more = f' and {len(found) - 2} more' if len(found) > 2 else ''
        return (', '.join(path for path, _ in found[:2]) + f'{more}: ' if found else '', [part for _, part in found])


def _about_config(said: str, places: Places) -> Optional[str]:
    """What an error says of the config; None where it is about something else."""
    unregistered, unexpected, missing = (pattern.match(said) for pattern in (UNREGISTERED, UNEXPECTED, MISSING))
    if unregistered:  # MMEngine goes on with a page on how registries work
        name, kind = unregistered.groups()
        place, _ = places.where(lambda part: part.get('type') == name)
        return f'{place}there is no {kind} {name!r}{nearest(name, registered(kind))}'
    if unexpected:
        owner, argument = unexpected.groups()
        # A type hands what it does not know to those that it derives from, and they refuse it.
        place, parts = places.where(lambda part: argument in part and owner in _ancestors(part.get('type')))
        owner = short_name(parts[0]['type']) if parts else owner
        return f'{place}{owner} has no argument {argument!r}{nearest(argument, _arguments(owner))}'
    if missing:
        owner, arguments = missing.groups()
        names = re.findall(r"'(\w+)'", arguments)
        place, parts = places.where(lambda part: owner in _ancestors(part.get('type'))
                                    and not any(name in part for name in names))
        return f'{place}{short_name(parts[0]["type"]) if parts else owner} needs {arguments}'
    if TYPELESS in said:
        place, parts = places.where(
            lambda part: 'type' not in part and f'{TYPELESS}{" ".join(str(part).split())}' in said)
        close = difflib.get_close_matches('type', map(str, parts[0]), n=1) if parts else []
        meant = f'; {close[0]!r} is perhaps meant to be it' if close else ''
        return f'{place or said + ": "}there is no type{meant}'
    if BAD_TYPE.match(said):
        place, _ = places.where(lambda part: 'type' in part and not is_type(part['type']))
        return f'{place}type must be a name' if place else None
    return None


def _class_named(name: str) -> Optional[type]:
    return next((entry for registered_name, entry in types_registered()
                 if short_name(registered_name) == name and isinstance(entry, type)), None)


def _ancestors(kind: Any) -> List[str]:
    """The names of a type and of all that it derives from, as far as it is imported."""
    found = _class_named(short_name(kind))
    return [short_name(kind), *(entry.__name__ for entry in found.__mro__)] if found else [short_name(kind)]


def _arguments(kind: str) -> List[str]:
    """What a type and those that it derives from take."""
    found = _class_named(kind)
    return sorted({name for entry in (found.__mro__[:-1] if found else ())
                   for name in inspect.signature(entry.__init__).parameters} - {'self', 'args', 'kwargs'})
