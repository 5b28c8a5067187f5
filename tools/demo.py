"""The demo: trains a tiny student on handwritten digits by each method and compares.

    python tools/demo.py [--out work_dirs/quickstart]

Trains the rows of ``tools/reproduce.py digits``, one on each core. Finished rows are not trained again; an interrupted
row goes on from its last checkpoint.
"""
import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config
from reproduce import SUITES

import mmkd_atsc  # noqa: F401
from analysis.plot_run import plot_runs
from analysis.runs import find_metric, read_scalars
from analysis.suite import Row, run_suite
from analysis.summary import deployed_parameters
from analysis.tables import markdown
from analysis.training import Stop
from mmkd_atsc import cli
from mmkd_atsc.export import export_student

DIGITS = SUITES['digits']
NAMES = {
    'teacher_digits': 'teacher', 'teacher2_digits': 'second teacher', 'student_digits': 'student alone',
    'kd_digits': 'KD (mmrazor)', 'aekt_digits': 'AEKT', 'simkd_digits': 'SimKD', 'atsc_digits': 'ATSC',
    'atsc_multi_digits': 'ATSC, two teachers'}


def rows() -> list[Row]:
    """The table's lines: the first seed of the digits' suite."""
    return [row._replace(name=NAMES[row.folder]) for row in DIGITS.rows((0, ))]


def train(out: Path, some: Sequence[Row]) -> list['Line']:
    """Trains rows side by side; returns the table's lines."""
    with Stop().by_signals() as stop:
        results = run_suite(some, out, len(os.sched_getaffinity(0)), stop, **DIGITS.environment(out))
    return [Line(result.row, deployed_parameters(Config.fromfile(result.row.config)),
                 find_metric(read_scalars(out / result.row.folder), 'accuracy/top1')[-1][1], result.seconds)
            for result in results]


class Line(NamedTuple):
    """A line of the table."""

    row: Row
    parameters: int
    accuracy: float
    seconds: float


def take_best(lines: Sequence[Line], out: Path) -> str:
    """Exports the best student; returns the code that loads it."""
    best = max(lines, key=lambda line: line.accuracy).row
    report = export_student(Config.fromfile(best.config), str(out / best.folder), out / 'student')
    files = f"'{report.config}', pretrained='{report.files['checkpoint']}'"
    return (f'best student: {best.name}, exported without its teacher to {out / "student"}; in Python:\n'
            f'    from mmpretrain import ImageClassificationInferencer\n'
            f"    ImageClassificationInferencer({files})('digit.png')")


def table(lines: Sequence[Line]) -> str:
    """The results as a Markdown table."""
    return markdown(('method', 'student parameters', 'accuracy %', 'seconds'),
                    [(line.row.name, f'{line.parameters:,}', f'{line.accuracy:.2f}', f'{line.seconds:.0f}')
                     for line in lines], left=['method'])


def main(argv: list[str] | None = None) -> None:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('work_dirs', 'quickstart'))
    out = parser.parse_args(argv).out.resolve()
    with cli.one_line_errors():
        lines = train(out, rows())
        plot_runs({line.row.name: read_scalars(out / line.row.folder) for line in lines}, out / 'accuracy.png')
        text = table(lines)
        (out / 'table.md').write_text(text + '\n')
        use = take_best([line for line in lines if line.row.needs], out)
    print(f'\n{text}\n\nplot: {out / "accuracy.png"}\ntable: {out / "table.md"}\n{use}')


if __name__ == '__main__':
    main()
