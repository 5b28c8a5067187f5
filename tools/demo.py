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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

from mmengine.config import Config
from mmengine.registry import MODELS

import mmkd_atsc  # noqa: F401
from mmkd_atsc import cli
from mmkd_atsc.analysis.runs import find_metric, read_scalars
from mmkd_atsc.analysis.training import run_training
from mmkd_atsc.export import export_student, student_config

ROOT = Path(__file__).resolve().parent.parent


class Row(NamedTuple):
    """A line of the table."""

    name: str
    config: str
    uses_teacher: bool = True


ROWS = (
    Row('teacher', 'teacher_digits', uses_teacher=False),
    Row('second teacher', 'teacher2_digits', uses_teacher=False),
    Row('student alone', 'student_digits', uses_teacher=False),
    Row('KD (mmrazor)', 'kd_digits'),
    Row('AEKT', 'aekt_digits'),
    Row('SimKD', 'simkd_digits'),
    Row('ATSC', 'atsc_digits'),
    Row('ATSC, two teachers', 'atsc_multi_digits'),
)
TEACHERS, TEACHER_VARIABLES = ROWS[:2], ('DEMO_TEACHER', 'DEMO_TEACHER2')


class Job(NamedTuple):
    """A row that is about to be trained, or its result if it was."""

    row: Row
    config_file: Path
    config: Config
    work_dir: Path
    identity: str
    result: Optional[dict]


def prepare(row: Row, out: Path, teachers: Sequence[Path]) -> Job:
    """Finds the result that is there, or makes the work directory ready for training."""
    work_dir, config_file = out / row.config, ROOT / 'configs' / 'demo' / f'{row.config}.py'
    if row.uses_teacher:
        os.environ.update((variable, str(path)) for variable, path in zip(TEACHER_VARIABLES, teachers))
    config = Config.fromfile(config_file)
    weights = map(_digest, teachers if row.uses_teacher else ())
    identity = hashlib.sha256(b''.join([config.pretty_text.encode(), *weights])).hexdigest()
    note = work_dir / 'result.json'
    result = json.loads(note.read_text()) if note.is_file() else {}
    if result.get('identity') == identity:
        return Job(row, config_file, config, work_dir, identity, result)
    started = work_dir / 'started'
    if started.is_file() and started.read_text() != identity:
        shutil.rmtree(work_dir)  # another config's: its log must not be read as this one's
    return Job(row, config_file, config, work_dir, identity, None)


def run(job: Job) -> float:
    """Trains a row in a process of its own, on one core; returns the seconds it took."""
    if job.result:
        return job.result['seconds']
    started = job.work_dir / 'started'
    resumes = started.is_file()
    job.work_dir.mkdir(parents=True, exist_ok=True)
    started.write_text(job.identity)
    print(f'training {job.row.name} ...', flush=True)
    begin = time.time()
    run_training(job.config_file, job.work_dir, resume=resumes, OMP_NUM_THREADS='1')
    return round(time.time() - begin, 1)


def finish(job: Job, seconds: float) -> dict:
    """What the table needs to know of a trained row, noted for the next time."""
    if job.result:
        return job.result
    result = dict(
        identity=job.identity, name=job.row.name, config=str(job.config_file.relative_to(ROOT)),
        parameters=deployed_parameters(job.config),
        accuracy=find_metric(read_scalars(job.work_dir), 'accuracy/top1')[-1][1], seconds=seconds)
    (job.work_dir / 'result.json').write_text(json.dumps(result, indent=2))
    return result


def train(rows: Sequence[Row], out: Path, teachers: Sequence[Path] = ()) -> List[dict]:
    """Trains rows side by side, one a core: networks this small do not gain from a second one."""
    jobs = [prepare(row, out, teachers) for row in rows]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        seconds = list(pool.map(run, jobs))
    return [finish(job, taken) for job, taken in zip(jobs, seconds)]


def deployed_parameters(config: Config) -> int:
    """What the student has when it leaves: a shared classifier counts, it goes along as a copy."""
    student = MODELS.build(student_config(config).model)
    return sum(parameter.numel() for parameter in student.parameters())


def take_best(results: List[dict], out: Path) -> str:
    """Exports the best of some students; returns how it is used."""
    best = max(results, key=lambda result: result['accuracy'])
    config = ROOT / best['config']
    checkpoint = (out / config.stem / 'last_checkpoint').read_text().strip()
    report = export_student(Config.fromfile(config), checkpoint, out / 'student')
    files = f"'{report.config}', pretrained='{report.files['checkpoint']}'"
    return (f'best student: {best["name"]}, exported without its teacher to {out / "student"}; in Python:\n'
            f'    from mmpretrain import ImageClassificationInferencer\n'
            f"    ImageClassificationInferencer({files})('digit.png')")


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
        results = train([row for row in ROWS if not row.uses_teacher], out)
        teachers = [Path((out / row.config / 'last_checkpoint').read_text().strip()) for row in TEACHERS]
        taught = train([row for row in ROWS if row.uses_teacher], out, teachers)
        results += taught
        plot({row.name: find_metric(read_scalars(out / row.config), 'accuracy/top1') for row in ROWS},
             read_scalars(out / 'atsc_digits'), out / 'accuracy.png')
        text = table(results)
        (out / 'table.md').write_text(text + '\n')
        use = take_best(taught, out)
    print(f'\n{text}\n\nplot: {out / "accuracy.png"}\ntable: {out / "table.md"}\n{use}')


if __name__ == '__main__':
    main()
