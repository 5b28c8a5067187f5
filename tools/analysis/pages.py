"""Reads and updates the tables of results in Markdown pages."""
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .tables import markdown_line

LINK = re.compile(r'\[([^\]]*)\]\(([^)\s]+)\)')

# A table with these columns is one of results.
REQUIRED_COLUMNS = ('method', 'seeds', 'last %', 'config')


class ResultLine(NamedTuple):
    """A line of a table of results: its index among the page's lines, and its cells by their columns."""

    index: int
    cells: dict[str, str]

    def config(self, page: Path) -> Path | None:
        """The config file that the line links to; None for somebody else's result, which has none."""
        link = LINK.search(self.cells['config'])
        return (page.parent / link.group(2)).resolve() if link else None


class ConfigResult(NamedTuple):
    """The results of a config: cells by their columns, and the seeds with their logs."""

    cells: Mapping[str, str]
    logs: Sequence[tuple[int, Path]]


def result_lines(text: str) -> list[ResultLine]:
    """The lines of a page's tables of results; other tables and code blocks are skipped.

    >>> line, = result_lines('''| method | seeds | last % | config |
    ... |---|---|---:|---|
    ... | KD | [0](logs/kd.json.gz) | 71.2 | [kd](kd.py) |''')
    >>> line.index, line.cells['last %'], line.config(Path('/configs/README.md')).as_posix()
    (2, '71.2', '/configs/kd.py')
    """
    return [ResultLine(index, cells) for index, cells in _table_lines(text) if set(REQUIRED_COLUMNS) <= cells.keys()]


def _table_lines(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    header: list[str] = []
    in_code = False
    for index, line in enumerate(text.split('\n')):
        in_code ^= line.lstrip().startswith('```')
        cells = _cells(line) if line.startswith('|') and not in_code else []
        if header and cells and not set(line) <= set('|-: \r') and len(cells) == len(set(header)):
            yield index, dict(zip(header, cells))
        header = header or cells if cells else []


def _cells(line: str) -> list[str]:
    """The cells of a line; ``\\\\|`` is a letter, and the last bar may be missing."""
    inner = re.sub(r'(?<!\\)\|$', '', line.strip()[1:])
    return [cell.strip() for cell in re.split(r'(?<!\\)\|', inner)]


def updated(page: Path, text: str, results: Mapping[Path, ConfigResult]) -> tuple[str, list[Path]]:
    """The page's text with new results, and the configs for which it has no line.

    A line belongs to the config that it links to. Method and config keep the page's words, seeds become links to their
    logs, and other cells are replaced. A line with more seeds than the result is refused, because it would lose them.
    """
    lines, found = text.split('\n'), result_lines(text)
    for line in found:
        result = results.get(line.config(page))
        if result:
            known = {str(seed) for seed, _ in result.logs}
            lost = {seed for seed, _ in LINK.findall(line.cells['seeds'])} - known
            if lost:
                raise ValueError(f'{page}, line {line.index + 1}: tells of seed {", ".join(sorted(lost))} too; '
                                 'give the logs of all its seeds')
            links = (f'[{seed}]({Path(os.path.relpath(log, page.parent.resolve())).as_posix()})'
                     for seed, log in result.logs)
            own = {name: line.cells[name] for name in ('method', 'config')}
            new = {**line.cells, **result.cells, **own, 'seeds': ', '.join(links)}
            end = '\r' * lines[line.index].endswith('\r')
            lines[line.index] = markdown_line(new[column] for column in line.cells) + end
    return '\n'.join(lines), sorted(results.keys() - {line.config(page) for line in found})
