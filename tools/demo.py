"""The demo: teaches a tiny student on handwritten digits by each method and compares.

    python tools/demo.py [--out work_dirs/quickstart]

Every row is ``tools/train.py`` with a config of ``configs/demo``, one a core: networks this
small do not gain from a second one. A row that is done with the same config and the same teachers is not trained again;
one that was interrupted goes on from its last checkpoint.
"""
import argparse
import os
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

from mmengine.config import Config

import mmkd_atsc  # noqa: F401
from analysis.runs import find_metric, read_scalars
from analysis.suite import Row, run_suite
from analysis.summary import deployed_parameters
from analysis.tables import markdown, pyplot
from analysis.training import Stop
from mmkd_atsc import cli
from mmkd_atsc.export import export_student
from mmkd_atsc.paths import CONFIGS

TEACHERS = ('teacher_digits', 'teacher2_digits')
NAMES = {
    'teacher_digits': 'teacher', 'teacher2_digits': 'second teacher', 'student_digits': 'student alone',
    'kd_digits': 'KD (mmrazor)', 'aekt_digits': 'AEKT', 'simkd_digits': 'SimKD', 'atsc_digits': 'ATSC',
    'atsc_multi_digits': 'ATSC, two teachers'}


def rows() -> List[Row]:
    """The table's lines; whoever has a teacher is trained after both."""
    alone = (*TEACHERS, 'student_digits')
    return [Row(name, CONFIGS / 'demo' / f'{config}.py', config, () if config in alone else TEACHERS)
            for config, name in NAMES.items()]


def train(out: Path, some: Sequence[Row]) -> List['Line']:
    """Trains rows side by side, and reads what the table says of them."""
    checkpoints = {f'DEMO_TEACHER{number}': str(out / folder) for number, folder in zip(('', 2), TEACHERS)}
    with Stop().by_signals() as stop:
        results = run_suite(some, out, len(os.sched_getaffinity(0)), stop, **checkpoints)
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
    """Exports the best of some students; returns how it is used."""
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


def plot(curves: Dict[str, list], atsc: List[dict], path: Path) -> None:
    """Left: accuracy over epochs, a line a row. Right: ATSC's student beside its teacher and the teacher's drift."""
    figure, (left, right) = pyplot().subplots(1, 2, figsize=(12, 4.4), layout='constrained')
    for name, points in curves.items():
        style = dict(color='0.4', linestyle='--') if 'teacher' in name.split() else {}
        left.plot(*zip(*points), label=f'{name} ({points[-1][1]:.1f})', marker='.', **style)
    left.set(xlabel='epoch', ylabel='test accuracy, %', title='Handwritten digits, 400 training images')
    left.set_ylim(bottom=0, top=102)
    for name, color in (('student', 'C5'), ('teacher', '0.4')):
        points = [(line['step'], line[f'{name}/accuracy/top1']) for line in atsc if f'{name}/accuracy/top1' in line]
        right.plot(*zip(*points), label=f"ATSC's {name}", marker='.', color=color)
    right.set(xlabel='epoch', ylabel='test accuracy, %', title='ATSC: the teacher adapts', ylim=(0, 102))
    drift = right.twinx()
    points = [(line['epoch'], 100 * line['teacher/drift']) for line in atsc if 'teacher/drift' in line]
    drift.plot(*zip(*points), label='drift of the teacher', color='C3', linestyle=':')
    drift.set_ylabel('‖θ − θ*‖ / ‖θ*‖, %')
    drift.set_ylim(bottom=0)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend(loc='lower right')
    lines = right.get_lines() + drift.get_lines()
    right.legend(lines, [line.get_label() for line in lines], loc='lower right')
    figure.savefig(path, dpi=110)


def main(argv: Optional[List[str]] = None) -> None:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('work_dirs', 'quickstart'))
    out = parser.parse_args(argv).out.resolve()
    with cli.one_line_errors():
        lines = train(out, rows())
        plot({line.row.name: find_metric(read_scalars(out / line.row.folder), 'accuracy/top1') for line in lines},
             read_scalars(out / 'atsc_digits'), out / 'accuracy.png')
        text = table(lines)
        (out / 'table.md').write_text(text + '\n')
        use = take_best([line for line in lines if line.row.needs], out)
    print(f'\n{text}\n\nplot: {out / "accuracy.png"}\ntable: {out / "table.md"}\n{use}')


if __name__ == '__main__':
    main()
