"""Trains every method with its defaults on a grid of small real tasks, and prints where one harms and by how much.

``python tools/analysis/robustness.py --out work_dirs/robustness --quick``; a run that is there is not made again.
"""
import argparse
import gzip
import json
import multiprocessing
import os
import platform
import shutil
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.runner import Runner

import mmkd_atsc  # noqa: F401
from mmkd_atsc import cli
from mmkd_atsc.checkpoints.find import find_checkpoint

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools/
from runner import build_runner

from analysis.runs import find_metric, read_environment, read_scalars
from analysis.small_tasks import METHODS, TASKS, Task, all_images, config_text, options_of
from analysis.tables import markdown

METRIC = 'accuracy/top1'
STOPPED, BEFORE_TRAINING = 3, 4  # how a process ends that trained, and one that did not


class Job(NamedTuple):
    """A run: a method, or a variant of one (``options`` by a label), on a task with a seed."""

    task: str
    label: str
    method: str
    seed: int
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return f'{self.task}.{self.label}.{self.seed}'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/robustness'), help='folder of the runs')
    parser.add_argument('--tasks', nargs='+', choices=TASKS, metavar='TASK', help=f'from {", ".join(TASKS)}')
    parser.add_argument('--quick', action='store_true', help='the quick tasks, one seed')
    parser.add_argument('--methods', nargs='*', choices=METHODS, default=METHODS, help='which methods')
    parser.add_argument('--variant', action='append', default=[], metavar='LABEL:METHOD:KEY=VALUE,...',
                        help='a method with other options, as after --cfg-options; may be given again')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1])
    parser.add_argument('--workers', type=int, default=1, help='runs side by side, a CPU thread each')
    parser.add_argument('--table', action='store_true', help='train nothing, print the table of what is there')
    parser.add_argument('--save', type=Path, metavar='FILE.json.gz', help='write all results into one file')
    args = parser.parse_args(argv)
    if args.quick:
        args.tasks, args.seeds = args.tasks or [name for name, task in TASKS.items() if task.quick], args.seeds[:1]
    args.tasks = args.tasks or list(TASKS)
    return args


def jobs_of(args: argparse.Namespace) -> list[Job]:
    """The runs, those of a task one after the other, the first seed of all tasks first."""
    variants = [(method, method, {}) for method in args.methods]
    for words in args.variant:
        label, method, options = (words.split(':', 2) + [''])[:3]
        variants.append((label, method, options_of(options)))
    return [Job(task, label, method, seed, options) for seed in args.seeds for task in args.tasks
            for label, method, options in variants]


def run_in_child(folder: Path, text: str, seed: int, options: dict[str, Any]) -> str:
    """Does what ``tools/train.py`` does, in a child process that has all modules and images already.

    Returns:
        str: Why the training was stopped, '' if it went to its end.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / 'config.py').write_text(text)
    child = multiprocessing.get_context('fork').Process(target=_train, args=(folder, seed, options))
    child.start()
    child.join()
    if child.exitcode not in (0, STOPPED):
        raise RuntimeError(f'{folder / "output.log"}: {last_line(folder / "output.log")}')
    return '' if child.exitcode == 0 else last_line(folder / 'output.log')


def _train(folder: Path, seed: int, options: dict[str, Any]) -> None:
    status = BEFORE_TRAINING
    with open(folder / 'output.log', 'w') as log:
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
    torch.set_num_threads(1)
    # Seconds a run: listing the software, and formatting the config, which is there as it was written.
    Runner._log_env = lambda *args: None
    Config.pretty_text = property(lambda config: (folder / 'config.py').read_text())
    progress = cli.Progress()
    try:
        config = cli.load_config(str(folder / 'config.py'), options)
        config.work_dir, config.randomness.seed = str(folder), seed
        build_runner(config, progress).train()
        status = 0
    except Exception as error:
        traceback.print_exc()
        print(f'error: {error}', flush=True)
        status = STOPPED if progress.has_trained else BEFORE_TRAINING
    finally:  # without the interpreter's own shutdown: this process is a copy of one with threads
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def last_line(log: Path) -> str:
    lines = [line for line in log.read_text().splitlines() if line.strip()]
    return next((line for line in reversed(lines) if line.startswith('error')), lines[-1] if lines else 'no output')


def teacher_of(task: Task, out: Path) -> Path:
    """The folder of a task's teacher, which is trained if it is not there."""
    folder = out / 'teachers' / task.teacher_name
    if not (folder / 'accuracy.json').is_file():
        print(f'training the teacher {task.teacher_name} ...', flush=True)
        error = run_in_child(folder, config_text(task, 'teacher'), 100, {})
        if error:
            raise RuntimeError(f'{folder}: {error}')
        accuracy = find_metric(read_scalars(folder), METRIC)[-1][1]
        (folder / 'accuracy.json').write_text(json.dumps(accuracy))
    return folder


def run_job(job: Job, out: Path) -> dict[str, Any]:
    """A run's result, from its file if there is one."""
    file = out / 'runs' / f'{job.name}.json'
    if file.is_file():
        return json.loads(file.read_text())
    task = TASKS[job.task]
    checkpoint = find_checkpoint(str(out / 'teachers' / task.teacher_name)) if job.method != 'alone' else ''
    folder, begin = out / 'work' / job.name, time.monotonic()
    error = run_in_child(folder, config_text(task, job.method, str(checkpoint)), job.seed, job.options)
    result = dict(job._asdict(), error=error, seconds=round(time.monotonic() - begin, 1), **outcome(folder, error))
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix('.new')
    aside.write_text(json.dumps(result))
    aside.replace(file)
    shutil.rmtree(folder)
    shown = error or f'{result["accuracy"]:.2f}'
    print(f'{job.name}: {shown} ({result["seconds"]:.0f} s)', flush=True)
    return result


def attempt(job: Job, out: Path) -> str:
    """Runs a job; returns why it could not begin. The others go on."""
    try:
        run_job(job, out)
    except RuntimeError as error:
        print(f'error: {error}', flush=True)
        return str(error)
    return ''


def outcome(folder: Path, error: str) -> dict[str, Any]:
    """Of a run's log the accuracies at the end, the terms on the way, and where it was made."""
    try:
        scalars = read_scalars(folder)
    except FileNotFoundError:
        return dict(accuracy=None, teacher=None, log=[], environment={})
    curve = [] if error else find_metric(scalars, METRIC)
    teacher = [line[f'teacher/{METRIC}'] for line in scalars if f'teacher/{METRIC}' in line]
    lines = [{key: float(f'{value:.4g}') for key, value in line.items() if isinstance(value, float)
              and key not in ('time', 'data_time', 'memory')} for line in scalars]
    step = max(1, len(lines) // 12)
    return dict(accuracy=curve[-1][1] if curve else None, teacher=teacher[-1] if teacher else None,
                log=lines[::step], environment=read_environment(folder))


def table(results: Iterable[dict[str, Any]], teachers: dict[str, float]) -> str:
    """Means over seeds: the student alone, and what each method adds to it by the same seeds; ATSC also to SimKD."""
    found: dict[str, dict[str, dict[int, dict]]] = {}
    for result in results:
        found.setdefault(result['task'], {}).setdefault(result['label'], {})[result['seed']] = result
    labels = list(dict.fromkeys(label for methods in found.values() for label in methods if label != 'alone'))
    rows, gains = [], {label: [] for label in labels}
    for task, methods in found.items():
        alone, seeds = methods.get('alone', {}), [len(runs) for runs in methods.values()]
        cells = []
        for label in labels:
            added = gain(methods.get(label, {}), alone)
            gains[label] += [added] if added is not None else []
            failed = any(run['error'] for run in methods.get(label, {}).values())
            cells.append('failed' if failed else _cell(added))
        scores = [run['accuracy'] for run in alone.values()]
        rows.append([task, '-'.join(map(str, sorted({min(seeds), max(seeds)}))),
                     f'{teachers.get(TASKS[task].teacher_name, 0):.1f}', f'{mean(scores):.1f}' if scores else '',
                     *cells, _cell(gain(methods.get('atsc', {}), methods.get('simkd', {})))])
    for name, summary in (('mean', mean), ('worst', min)):
        summaries = (f'{summary(values):+.1f}' if values else '' for values in gains.values())
        rows.append([name, '', '', '', *summaries, ''])
    failures = [sum(bool(run['error']) for methods in found.values() for run in methods.get(label, {}).values())
                for label in labels]
    rows.append(['runs that failed', '', '', '', *failures, ''])
    return markdown(['task', 'seeds', 'teacher', 'alone', *labels, 'atsc - simkd'], rows, left=['task'])


def gain(runs: dict[int, dict], others: dict[int, dict]) -> float | None:
    """The mean difference over the seeds of both; None where there is none, or one failed."""
    pairs = [(runs[seed]['accuracy'], others[seed]['accuracy']) for seed in runs.keys() & others.keys()]
    return mean(own - other for own, other in pairs) if pairs and None not in sum(pairs, ()) else None


def _cell(added: float | None) -> str:
    """More than half a point lost is bold."""
    return '' if added is None else f'**{added:+.1f}**' if added < -0.5 else f'{added:+.1f}'


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    jobs, out, wrong = jobs_of(args), args.out, []
    if not args.table:
        if not all(TASKS[name].digits for name in args.tasks):
            for split in ('train', 'test'):  # read here, children have them
                all_images(split, os.environ.get('MMKD_DATA_ROOT', 'data/cifar100'))
        torch.set_num_threads(1)
        with ThreadPoolExecutor(args.workers) as pool:
            distinct = {TASKS[name].teacher_name: TASKS[name] for name in args.tasks}
            list(pool.map(lambda task: teacher_of(task, out), distinct.values()))
            wrong = [error for error in pool.map(lambda job: attempt(job, out), jobs) if error]
    done = [out / 'runs' / f'{job.name}.json' for job in jobs]
    results = [json.loads(file.read_text()) for file in done if file.is_file()]
    teachers = {file.parent.name: json.loads(file.read_text()) for file in out.glob('teachers/*/accuracy.json')}
    print(table(results, teachers))
    if args.save:
        where = dict(python=platform.python_version(), torch=torch.__version__, date=time.strftime('%Y-%m-%d'),
                     device=torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU, 1 thread')
        text = json.dumps(dict(environment=where, teachers=teachers, results=results), indent=0)
        args.save.write_bytes(gzip.compress(text.encode(), mtime=0))
    if wrong:
        raise SystemExit(f'error: {len(wrong)} runs did not begin, the first: {wrong[0]}')


if __name__ == '__main__':
    main()
