"""The tables of results in our pages: read, and written from the logs."""
import os
import re
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, NamedTuple, Sequence, Tuple

LINK = re.compile(r'\[([^\]]*)\]\(([^)\s]+)\)')

# What makes a table one of results; other columns are the page's choice.
TELLING = ('method', 'seeds', 'last %', 'config')


class Line(NamedTuple):
    """A line of a table of results: where it stands in the page, and its cells by their columns."""

    number: int
    cells: Dict[str, str]

    def config(self, page: Path) -> Path:
        """The config file that the line links to."""
        link = LINK.fullmatch(self.cells['config'])
        if not link:
            raise ValueError(f'{page}, line {self.number + 1}: {self.cells["config"]!r} must be a link to the config')
        return (page.parent / link.group(2)).resolve()


def result_lines(text: str) -> List[Line]:
    """The lines of a page's tables of results, without those of other tables.

    >>> line, = result_lines('''| method | seeds | last % | config |
    ... |---|---|---:|---|
    ... | KD | [0](logs/kd) | 71.2 | [kd](kd.py) |''')
    >>> line.number, line.cells['last %'], line.config(Path('/configs/README.md')).as_posix()
    (2, '71.2', '/configs/kd.py')
    """
    return [Line(number, cells) for number, cells in _table_lines(text) if set(TELLING) <= cells.keys()]


def _table_lines(text: str) -> Iterator[Tuple[int, Dict[str, str]]]:
    header: List[str] = []
    for number, line in enumerate(text.splitlines()):
        cells = [cell.strip() for cell in line.strip()[1:-1].split('|')] if line.startswith('|') else []
        if header and cells and not set(line) <= set('|-: '):
            yield number, dict(zip(header, cells))
        header = header or cells if cells else []


class Entry(NamedTuple):
    """What a page says of a config: cells by their columns, and the seeds with the folders of their logs."""

    cells: Mapping[str, str]
    logs: Sequence[Tuple[int, Path]]


def update_page(page: Path, entries: Mapping[Path, Entry]) -> List[Path]:
    """Writes results into the lines of a page that are there for them; returns the configs that have none.

    A line belongs to the config that it links to. Its method and its config are the page's own words, its seeds become
    links to their logs, and each other cell whose column an entry has is replaced.
    """
    text = page.read_text(encoding='utf-8')
    lines, found = text.splitlines(), result_lines(text)
    for line in found:
        entry = entries.get(line.config(page))
        if entry:
            links = (f'[{seed}]({Path(os.path.relpath(folder, page.parent.resolve())).as_posix()})'
                     for seed, folder in entry.logs)
            own = {name: line.cells[name] for name in ('method', 'config')}
            new = {**line.cells, **entry.cells, **own, 'seeds': ', '.join(links)}
            lines[line.number] = f'| {" | ".join(new[column] for column in line.cells)} |'
    page.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return sorted(entries.keys() - {line.config(page) for line in found})
