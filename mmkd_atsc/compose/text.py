"""Configs as the text that people read and write: values as Python, and dicts given on a command line."""
import ast
import textwrap
from typing import Any, List

WIDTH = 120
_INDENT = 4


class Code(str):
    """An expression that stands in a config as it is, such as ``_base_.model``."""

    def __repr__(self) -> str:
        return str(self)


class Changed(dict):
    """A copy of a dict of another config, with changes: ``dict(_base_.model, neck=None)``.

    >>> to_code(Changed('_base_.model', neck=None))
    'dict(_base_.model, neck=None)'
    """

    def __init__(self, origin: str, **changes: Any) -> None:
        super().__init__(changes)
        self.origin = origin


def to_code(value: Any, column: int = 0, indent: int = 0) -> str:
    """A value as OpenMMLab's configs write it, ``dict(key=...)``, broken into lines where it is too long.

    Args:
        value: Dicts, lists, plain values, and :class:`Code`.
        column: Where in its line the value begins.
        indent: How far that line is indented.

    >>> to_code(dict(type='A', layers=[1, 2], part=Code('_base_.model')))
    "dict(type='A', layers=[1, 2], part=_base_.model)"
    >>> print('model = ' + to_code(dict(type='A' * 60, other='B' * 60), column=8))  # doctest: +ELLIPSIS
    model = dict(
        type='AAA...A',
        other='BBB...B')
    """
    flat = _flat(value)
    if column + len(flat) <= WIDTH or not value or isinstance(value, Code):
        return flat
    inner = indent + _INDENT
    pad = '\n' + ' ' * inner
    if isinstance(value, dict) and _is_call(value):
        parts = [f'{key}={to_code(part, inner + len(key) + 2, inner)}' for key, part in value.items()]
        parts = [*_origin(value), *parts]
        return f'dict({pad}' + f',{pad}'.join(parts) + ')'
    if isinstance(value, dict):
        parts = [f'{key!r}: {to_code(part, inner + len(repr(key)) + 3, inner)}' for key, part in value.items()]
        return f'{{{pad}' + f',{pad}'.join(parts) + '}'
    if isinstance(value, (list, tuple)):
        opening, closing = '[]' if isinstance(value, list) else '()'
        return f'{opening}{pad}' + f',{pad}'.join(to_code(part, inner + 1, inner) for part in value) + closing
    return flat


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        if _is_call(value):
            parts = [f'{key}={_flat(part)}' for key, part in value.items()]
            return 'dict(' + ', '.join([*_origin(value), *parts]) + ')'
        return '{' + ', '.join(f'{key!r}: {_flat(part)}' for key, part in value.items()) + '}'
    if isinstance(value, list):
        return '[' + ', '.join(map(_flat, value)) + ']'
    if isinstance(value, tuple):
        return '(' + ', '.join(map(_flat, value)) + (',)' if len(value) == 1 else ')')
    return repr(value)


def _origin(value: dict) -> List[str]:
    return [value.origin] if isinstance(value, Changed) else []


def _is_call(value: dict) -> bool:
    """Whether its keys can be arguments of ``dict(...)``."""
    return all(isinstance(key, str) and key.isidentifier() for key in value)


def assignment(name: str, value: Any) -> str:
    """A line, or some, of a config.

    >>> assignment('val_cfg', dict(type='ValLoop'))
    "val_cfg = dict(type='ValLoop')"
    """
    return f'{name} = {to_code(value, len(name) + 3)}'


def comment(text: str) -> str:
    """A comment, broken into lines."""
    return '\n'.join(textwrap.wrap(text, WIDTH, initial_indent='# ', subsequent_indent='# '))


def read_inline(text: str) -> dict:
    """A dict as a config writes it, from a command line; nothing in it is run.

    >>> read_inline("dict(type='ImageClassifier', head=dict(num_classes=10), sizes={'a': [1, 2]})")
    {'type': 'ImageClassifier', 'head': {'num_classes': 10}, 'sizes': {'a': [1, 2]}}
    """
    try:
        value = ast.literal_eval(ast.fix_missing_locations(_DictCalls().visit(ast.parse(text, mode='eval'))))
    except (SyntaxError, ValueError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{text[:60]}: is no dict of plain values, such as dict(type='ImageClassifier', ...)")
    return value


class _DictCalls(ast.NodeTransformer):
    """``dict(a=1)`` as ``{'a': 1}``, which is a literal."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        is_dict = isinstance(node.func, ast.Name) and node.func.id == 'dict'
        if not is_dict or node.args or any(keyword.arg is None for keyword in node.keywords):
            return node  # no literal: refused
        return ast.Dict(keys=[ast.Constant(keyword.arg) for keyword in node.keywords],
                        values=[keyword.value for keyword in node.keywords])
