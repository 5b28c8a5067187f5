"""The demo: teaches a tiny student on handwritten digits by each method and compares.

    python tools/demo.py [--out work_dirs/quickstart]

Every row is ``tools/train.py`` with a config of ``configs/demo``. A row that is done with the same config and the same
teacher is not trained again; one that was interrupted goes on from its last checkpoint.
"""
import argparse
import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from mmengine.config import Config
from mmengine.registry import MODELS

import mmkd_atsc  # noqa: F401
from mmkd_atsc import cli
from mmkd_atsc.analysis.runs import find_metric, read_scalars
from mmkd_atsc.analysis.training import run_training
from mmkd_atsc.models.heads import SharedClassifierHead

ROOT = Path(__file__).resolve().parent.parent


class Row(NamedTuple):
    """A line of the table."""

    name: str
    config: str
    uses_teacher: bool = True


ROWS = (
    Row('teacher', 'teacher_digits', uses_teacher=False),
    Row('student alone', 'student_digits', uses_teacher=False),
    Row('KD (mmrazor)', 'kd_digits'),
    Row('AEKT', 'aekt_digits'),
    Row('SimKD', 'simkd_digits'),
    Row('ATSC', 'atsc_digits'),
)


def train(row: Row, out: Path, teacher: Optional[Path]) -> dict:
    """Trains a row, or takes the result that is there; returns what the table needs."""
    work_dir, config_file = out / row.config, ROOT / 'configs' / 'demo' / f'{row.config}.py'
    environment = {'DEMO_TEACHER': str(teacher)} if row.uses_teacher else {}
    os.environ.update(environment)
    config = Config.fromfile(config_file)
    identity = hashlib.sha256(config.pretty_text.encode() + (_digest(teacher) if row.uses_teacher else b'')).hexdigest()
    note = work_dir / 'result.json'
    if note.is_file() and json.loads(note.read_text()).get('identity') == identity:
        return json.loads(note.read_text())

    started = work_dir / 'started'
    resumes = started.is_file() and started.read_text() == identity
    if started.is_file() and not resumes:
        shutil.rmtree(work_dir)  # another config's: its log must not be read as this one's
    work_dir.mkdir(parents=True, exist_ok=True)
    started.write_text(identity)
    print(f'training {row.name} ...', flush=True)
    begin = time.time()
    run_training(config_file, work_dir, resume=resumes, **environment)
    result = dict(
        identity=identity, name=row.name, config=str(config_file.relative_to(ROOT)),
        parameters=deployed_parameters(config.model),
        accuracy=find_metric(read_scalars(work_dir), 'accuracy/top1')[-1][1], seconds=round(time.time() - begin, 1))
    note.write_text(json.dumps(result, indent=2))
    return result


def deployed_parameters(model: dict) -> int:
    """What the student has when it leaves: a shared classifier counts, it goes along as a copy."""
    student = MODELS.build(model.get('architecture', model))
    networks = [student]
    if isinstance(student.head, SharedClassifierHead):
        networks.append(MODELS.build(model['teacher']).head)
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def table(results: List[dict]) -> str:
    """The results as a Markdown table."""
    lines = ['| method | student parameters | accuracy % | seconds |', '|---|---:|---:|---:|']
    lines += [f'| {r["name"]} | {r["parameters"]:,} | {r["accuracy"]:.2f} | {r["seconds"]:.0f} |' for r in results]
    return '\n'.join(lines)


def plot(curves: Dict[str, list], atsc: List[dict], path: Path) -> None:
    """Left: accuracy over epochs, a line a row. Right: ATSC's student beside its teacher and the teacher's drift."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.4), layout='constrained')
    for name, points in curves.items():
        style = dict(color='0.4', linestyle='--') if name == 'teacher' else {}
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
    results, teacher = [], None
    with cli.one_line_errors():
        for row in ROWS:
            results.append(train(row, out, teacher))
            if row.config == 'teacher_digits':
                teacher = Path((out / row.config / 'last_checkpoint').read_text().strip())
        plot({row.name: find_metric(read_scalars(out / row.config), 'accuracy/top1') for row in ROWS},
             read_scalars(out / 'atsc_digits'), out / 'accuracy.png')
        text = table(results)
        (out / 'table.md').write_text(text + '\n')
    print(f'\n{text}\n\nplot: {out / "accuracy.png"}\ntable: {out / "table.md"}')


if __name__ == '__main__':
    main()
