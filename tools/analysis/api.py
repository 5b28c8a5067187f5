"""Lists the types that a config may name, each with the first sentence of its docstring.

python tools/analysis/api.py --out docs/api.md
"""
import argparse
import inspect
import os
import re
from pathlib import Path

import mmkd_atsc
from mmkd_atsc import cli, registry

ROOT = Path(mmkd_atsc.__file__).resolve().parents[1]
HEADER = """# The types that a config may name

Written by `tools/analysis/api.py` from the docstrings; a test compares. A config names a type with the package's
prefix, `type='mmkd_atsc.AEKTLoss'` (recorders as `mmkd_atsc.Labels`). The link leads to the docstring,
which has the arguments and an example. The method pages ([ATSC](../configs/atsc/README.md),
[AEKT](../configs/aekt/README.md)) have their options in tables.
"""
# The group's title, by the registry or, of MODELS, the folder; in the page's order.
TITLES = {
    'algorithms': 'Algorithms', 'distillers': 'Distillers', 'losses': 'Losses',
    'connectors': 'Connectors, necks', 'heads': 'Heads', 'recorders': 'Recorders', 'HOOKS': 'Hooks',
    'LOOPS': 'Loops', 'OPTIM_WRAPPERS': 'Optimizer', 'OPTIM_WRAPPER_CONSTRUCTORS': 'Optimizer',
    'PARAM_SCHEDULERS': 'Optimizer', 'MODEL_WRAPPERS': 'Several processes', 'backbones': 'Backbones',
    'DATASETS': 'Data', 'FUNCTIONS': 'Data', 'data_preprocessors': 'Data'}


def registered() -> dict[str, dict[type, list[str]]]:
    """Our types by their group's title, each with its names."""
    groups: dict[str, dict[type, list[str]]] = {title: {} for title in TITLES.values()}
    for place, types in vars(registry).items():
        if isinstance(types, registry.Registry) and types.scope == 'mmkd_atsc':
            types.import_from_location()
            ours = {name: kind for name, kind in types.module_dict.items() if kind.__module__.startswith('mmkd_atsc.')}
            for name, kind in ours.items():
                parts = kind.__module__.split('.')
                folder = parts[2] if place == 'MODELS' else parts[1] if place == 'TASK_UTILS' else place
                groups[TITLES[folder]].setdefault(kind, []).append(name)
    return groups


def first_sentence(doc: str) -> str:
    """The first sentence of a docstring, in Markdown.

    >>> first_sentence('''Runs :class:`Loop` with ``x=1``, as `a paper <https://a.org/1>`_
    ...     has it: fast. More.''')
    'Runs `Loop` with `x=1`, as [a paper](https://a.org/1) has it'
    """
    text = re.sub(r'\s+', ' ', inspect.cleandoc(doc).split('\n\n')[0])
    text = re.split(r'(?<=[.:]) (?=[A-Z:a-z])', text)[0].rstrip('.:')
    text = re.sub(r'`([^`<]+) <([^>]+)>`_', r'[\1](\2)', text)
    return re.sub(r':\w+:`~?([^`]+)`', r'`\1`', text).replace('``', '`').replace('\\tau', 'tau')


def line_of(kind: type, names: list[str], page: Path) -> str:
    source = os.path.relpath(inspect.getfile(kind), page.resolve().parent)
    also = ''.join(f', also `{name}`' for name in names if name != kind.__name__)
    return f'- [`{kind.__name__}`]({Path(source).as_posix()}){also}: {first_sentence(kind.__doc__ or "")}.'


def page_text(page: Path) -> str:
    """The text of the page at ``page``, from which its links lead."""
    text = HEADER
    for title, kinds in registered().items():
        kinds = dict(sorted(kinds.items(), key=lambda item: item[0].__name__))
        text += f'\n## {title}\n' + ''.join(f'{line_of(kind, names, page)}\n' for kind, names in kinds.items())
    return text


def main(argv: list[str] | None = None) -> None:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=ROOT / 'docs' / 'api.md', metavar='FILE',
                        help='page to write (default: docs/api.md)')
    page = parser.parse_args(argv).out
    with cli.one_line_errors():
        page.write_text(page_text(page), encoding='utf-8')
        print(page)


if __name__ == '__main__':
    main()
