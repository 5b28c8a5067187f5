"""Writes tables in Markdown and CSV, and pictures without a screen."""
import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any


def markdown(columns: Sequence[str], rows: Iterable[Sequence[Any]], left: Sequence[str] = ()) -> str:
    """A Markdown table; columns of numbers are aligned to the right, those named in ``left`` are not.

    >>> print(markdown(['method', '%'], [['KD', '93.1']], left=['method']))
    | method | % |
    |---|---:|
    | KD | 93.1 |
    """
    text = [markdown_line(line) for line in (columns, *rows)]
    text.insert(1, f'|{"|".join("---" if column in left else "---:" for column in columns)}|')
    return '\n'.join(text)


def markdown_line(cells: Iterable[Any]) -> str:
    return f'| {" | ".join(map(str, cells))} |'


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def pyplot() -> ModuleType:
    """matplotlib's pyplot, drawing into files."""
    try:
        import matplotlib
    except ImportError:
        raise ImportError('pictures need matplotlib: pip install matplotlib') from None
    matplotlib.use('Agg')
    from matplotlib import pyplot
    return pyplot


def picture_path(option: str, path: Path) -> Path:
    """Checks that matplotlib writes such files, makes the folder, and returns ``path``."""
    known = pyplot().figure().canvas.get_supported_filetypes()
    pyplot().close()
    if path.suffix[1:].lower() not in known:
        raise ValueError(f'{option} {path}: its ending must be one of {", ".join(sorted(known))}')
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
