"""Checks of config values: one line says what is wrong and what is allowed."""
import difflib
import math
from collections.abc import Collection, Iterable
from typing import Any


class TrainingStopped(RuntimeError):
    """Ends a training that has begun, for a reason that is no bug; the tools print it in one line."""


def nearest(name: Any, allowed: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for a near miss, else nothing."""
    close = difflib.get_close_matches(str(name), list(allowed), n=1)
    return f'; did you mean {close[0]!r}?' if close else ''


def check_choice(name: str, value: Any, allowed: Iterable[Any]) -> Any:
    """``value`` if it is one of ``allowed``, else a ValueError that lists them and names the nearest."""
    allowed = list(allowed)
    if value in allowed:
        return value
    listed = ', '.join(repr(choice) for choice in allowed)
    raise ValueError(f'{name}={value!r} is not one of {listed}{nearest(value, map(str, allowed))}')


def check_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf, *,
                 above: float | None = None, integer: bool = False, optional: bool = False) -> Any:
    """``value`` if it is a finite number in [low, high] (and greater than ``above``), else one line that says so."""
    if optional and value is None:
        return None
    limits = {f'greater than {above}': above is not None, f'at least {low:g}': above is None and low > -math.inf,
              f'at most {high:g}': high < math.inf}
    kind = 'an integer' if integer else 'a number'
    wanted = f'{kind} {" and ".join(text for text, holds in limits.items() if holds)}'.strip()
    if not isinstance(value, int if integer else (int, float)) or isinstance(value, bool):
        raise TypeError(f'{name}={value!r} must be {wanted}')
    if not (low <= value <= high and math.isfinite(value)) or (above is not None and value <= above):
        raise ValueError(f'{name}={value!r} must be {wanted}')
    return value


def check_flag(name: str, value: Any) -> bool:
    """``value`` if it is True or False, else a TypeError (``'False'`` in quotes would be true)."""
    if isinstance(value, bool):
        return value
    raise TypeError(f'{name}={value!r} must be True or False')


def check_keys(where: str, given: Iterable[str], known: Collection[str]) -> None:
    """Refuses keys that nothing would read."""
    for key in given:
        if key not in known:
            raise ValueError(f'{where}: {key} is not read{nearest(key, known)}; there are {", ".join(known)}')
