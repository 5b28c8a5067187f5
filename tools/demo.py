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
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from mmengine.config import Config
from mmengine.registry import MODELS

import mmkd_atsc  # noqa: F401
from mmkd_atsc import cli
from mmkd_atsc.analysis.runs import find_metric, read_scalars

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
)


def train(row: Row, out: Path, teacher: Optional[Path]) -> dict:
    """Trains a row, or takes the result that is there; returns what the table needs."""
    work_dir, config_file = out / row.config, ROOT / 'configs' / 'demo' / f'{row.config}.py'
    environment = dict(os.environ)
    if row.uses_teacher:
        environment['DEMO_TEACHER'] = os.environ['DEMO_TEACHER'] = str(teacher)
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
    command = [sys.executable, str(ROOT / 'tools' / 'train.py'), str(config_file), '--work-dir', str(work_dir)]
    print(f'training {row.name} ...', flush=True)
    begin = time.time()
    with open(work_dir / 'output.log', 'w') as log:
        done = subprocess.run(command + ['--resume'] * resumes, cwd=ROOT, env=environment, stdout=log,
                              stderr=subprocess.STDOUT)
    if done.returncode:
        raise RuntimeError(f'{row.name} did not train; its output is in {work_dir / "output.log"}')
    student = config.model.get('architecture', config.model)
    result = dict(
        identity=identity, name=row.name, config=str(config_file.relative_to(ROOT)),
        parameters=sum(p.numel() for p in MODELS.build(student).parameters()),
        accuracy=find_metric(read_scalars(work_dir), 'accuracy/top1')[-1][1], seconds=round(time.time() - begin, 1))
    note.write_text(json.dumps(result, indent=2))
    return result


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def table(results: List[dict]) -> str:
    """The results as a Markdown table."""
    lines = ['| method | student parameters | accuracy % | seconds |', '|---|---:|---:|---:|']
    lines += [f'| {r["name"]} | {r["parameters"]:,} | {r["accuracy"]:.2f} | {r["seconds"]:.0f} |' for r in results]
    return '\n'.join(lines)


def plot(curves: Dict[str, list], path: Path) -> None:
    """Accuracy over epochs, a line a row."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout='constrained')
    for name, points in curves.items():
        style = dict(color='0.4', linestyle='--') if name == 'teacher' else {}
        axes.plot(*zip(*points), label=f'{name} ({points[-1][1]:.1f})', marker='.', **style)
    axes.set(xlabel='epoch', ylabel='test accuracy, %', title='Handwritten digits, 400 training images')
    axes.set_ylim(bottom=max(0, min(points[-1][1] for points in curves.values()) - 25), top=100)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


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
             out / 'accuracy.png')
        text = table(results)
        (out / 'table.md').write_text(text + '\n')
    print(f'\n{text}\n\nplot: {out / "accuracy.png"}\ntable: {out / "table.md"}')


if __name__ == '__main__':
    main()
