"""Runs all GPU tests and benchmarks on one GPU, in four minutes at most, and ends with a table of ratios.

bash tools/benchmark/gpu.sh OUT

First, side by side: the tests that need a GPU, some that must not use it, the loss curves, a training over NCCL, and
compilation into a cache. Then, one after the other: the timings. Each part is a process with a time limit. A part that
fails or hangs is reported and the others go on; at the deadline the rest is skipped. ``OUT/gpu.log`` has the whole
output, ``OUT/numbers.jsonl`` the numbers. Without a GPU, or with ``--rehearse``, few steps of four images run; those
numbers mean nothing.
"""
import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAIRS = dict(resnet32x4_resnet8x4=8, resnet110_resnet32=12)  # authors' loop over ours fast, as promised
SMALL_PAIR = 'wrn_40_2_wrn_40_1'
CPU_TESTS = ('tests/test_distributed.py', 'tests/test_processes.py',
             'tests/test_runtime/test_step_graph.py', 'tests/test_runtime/test_exact_resume.py',
             'tests/test_runtime/test_accelerate.py', 'tests/test_tools/test_train_and_test.py')
COUNTS = r'\d (passed|skipped)'  # pytest's last line


class Part(NamedTuple):
    """A process with its time limit; of a part that succeeds, the lines of output that match ``show`` are printed."""

    name: str
    command: list[str]
    seconds: float
    environment: dict[str, str] = {}
    show: str = ''


class Running:
    """A part that has been started, in a process group of its own."""

    def __init__(self, part: Part, folder: Path, environment: dict[str, str]) -> None:
        self.part, self.begin = part, time.monotonic()
        self.log = folder / re.sub(r'\W+', '_', part.name)
        with self.log.open('w') as out:
            self.process = subprocess.Popen(part.command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT,
                                            stdin=subprocess.DEVNULL, start_new_session=True,
                                            env={**os.environ, **environment, **part.environment})

    def wait(self, seconds: float) -> int | None:
        """Its exit code; None if it took longer, and was ended."""
        try:
            return self.process.wait(max(0.1, seconds))
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.end()

    def end(self) -> None:
        """Ends the process and its children; after SIGINT pytest still prints its failures."""
        for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, sent)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(3)


class Report:
    """Prints results and writes the whole output to ``gpu.log``."""

    def __init__(self, out: Path) -> None:
        self.file = (out / 'gpu.log').open('w')
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        print(text, flush=True)
        self.file.write(text + '\n')
        self.file.flush()

    def add(self, running: Running, code: int | None) -> None:
        """Logs a part's output; prints the chosen lines of it, or its failed tests or its end."""
        part, seconds = running.part, time.monotonic() - running.begin
        text = running.log.read_text(errors='replace').strip()
        state = 'ok' if code == 0 else 'FAILED, ' + ('out of time' if code is None else f'exit code {code}')
        line = f'{part.name}: {state}, {seconds:.0f} s'
        self.lines.append(line)
        self.file.write(f'\n===== {line}\n{text}\n')
        self.file.flush()
        said = '\n'.join(failed_tests(text)[:40]) or text[-700:]
        if code == 0:
            said = '\n'.join([line for line in text.splitlines() if re.search(part.show, line)][-30:])
        print(f'\n## {line}\n{said}'.rstrip(), flush=True)


def failed_tests(text: str) -> list[str]:
    """The failed tests in pytest's output, also of a run that was ended before its summary.

    >>> failed_tests("[gw0] [ 50%] FAILED tests/a.py::b\\n[gw1] FAILED tests/a.py::c\\nFAILED tests/a.py::b - no")
    ['tests/a.py::b - no', 'tests/a.py::c']
    """
    found: dict[str, str] = {}
    for line in re.findall(r'(?:FAILED|ERROR) (\S+\.py\b.*)', text):
        found[line.split(' - ')[0].strip()] = line[:150].strip()
    return list(found.values())


def pairs_of(rehearse: bool) -> list[str]:
    return [SMALL_PAIR] if rehearse else list(PAIRS)


def tool(name: str, *words: object) -> list[str]:
    return [sys.executable, str(HERE / name), *map(str, words)]


def pytest(*words: str, workers: int) -> list[str]:
    return [sys.executable, '-m', 'pytest', '-n', str(workers), '--dist', 'load', '-p', 'no:cacheprovider', '-rfE',
            '--tb=line', '-vv', *words]


def parts_together(rehearse: bool, folder: Path) -> list[Part]:
    """The parts that are not timed, the longest first."""
    one_thread = dict(OMP_NUM_THREADS='1')
    few = ('--batch', 4, '--warmup', 5, '--steps', 2) if rehearse else ('--warmup', 10, '--steps', 5)
    compiling = [Part(f'compile {method} {pair}',
                      tool('profile_step.py', '--fast', '--pairs', pair, '--methods', method, '--record', 0, *few),
                      100, dict(one_thread, MMKD_BENCHMARK_NOTES=''), r'WARNING|^\| a')
                 for pair in pairs_of(rehearse) for method in ('atsc', 'aekt')]
    short = ('--batch', 4, '--steps', 6, '--pair', SMALL_PAIR) if rehearse else ()
    return [
        *compiling,
        Part('environment', [sys.executable, '-m', 'mmkd_atsc'], 60, one_thread, '.'),
        Part('loss curves', tool('curves.py', *short), 100, one_thread),
        Part('tests that need a GPU', pytest('tests/gpu', workers=2), 90,
             dict(one_thread, MMKD_TEST_DEVICE='cuda'), COUNTS),
        Part('training over NCCL', ['bash', 'tools/dist_train.sh', str(write_training(folder)), '1', '--fast'], 90,
             dict(one_thread, PYTHON=sys.executable, PYTHONPATH=f'{HERE}{os.pathsep}{search_path()}'),
             'WARNING|captured|compiled|fast|CPU|top1'),
        Part('tests that must not meet it', pytest(*CPU_TESTS[:1 if rehearse else None], workers=4), 75, one_thread,
             COUNTS),
    ]


def parts_alone(rehearse: bool) -> list[Part]:
    """The timings, the most important first."""
    batch = ('--batch', 4) if rehearse else ()
    repeats = ('--repeats', 1 if rehearse else 3)
    few = ('--warmup', 5, '--steps', 2) if rehearse else ('--steps', 200)
    shapes = ('8x10', ) if rehearse else ('64x100', '1024x1000', '256x21841')
    made = []
    for pair in pairs_of(rehearse):
        made += [Part(f'fast, {pair}', tool('profile_step.py', '--fast', '--pairs', pair, *batch, *few), 75),
                 Part(f'eager and rivals, {pair}', tool('step.py', '--brief', '--pairs', pair, *repeats, *batch), 50)]
    return [*made, Part('losses', tool('losses.py', '--shapes', *shapes, '--repeats', 2 if rehearse else 15), 30)]


def search_path() -> str:
    """A Python path with this checkout first."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))


def write_training(folder: Path) -> Path:
    """Writes a config that trains a tiny pair on random images."""
    path = folder / 'tiny.py'
    path.write_text(f"""_base_ = [{str(ROOT / 'configs/atsc/resnet32x4_resnet8x4_cifar100.py')!r}]
custom_imports = dict(imports=['runs'])
network = dict(depth=8, widths=(4, 4, 4, 8))
model = dict(architecture=dict(backbone=network),
             teacher=dict(backbone=network, head=dict(in_channels=8)), teacher_ckpt=None, allow_random_teacher=True)
data = dict(type='mmkd_atsc.RandomBatchedCIFAR100', data_root='none', download=False, indices=32 * 16)
train_dataloader = dict(batch_size=16, dataset=data)
val_dataloader = test_dataloader = dict(dataset=data)
default_hooks = dict(start_check=None, logger=dict(interval=10))
train_cfg = dict(max_epochs=1)
work_dir = {str(folder / 'work_dir')!r}
""")
    return path


def run_together(parts: list[Part], start, report: Report, deadline: float) -> None:
    """Runs parts side by side, half as many as there are processors."""
    waiting, running = list(parts), []
    while waiting or running:
        while waiting and len(running) < max(2, (os.cpu_count() or 1) // 2):
            running.append(start(waiting.pop(0)))
        for one in list(running):
            over = time.monotonic() > min(deadline, one.begin + one.part.seconds)
            if one.process.poll() is not None or over:
                running.remove(one)
                report.add(one, one.wait(0.1))
        if time.monotonic() > deadline:
            report.lines += [f'{part.name}: SKIPPED' for part in waiting]
            waiting = []
        time.sleep(0.1)


def run_alone(parts: list[Part], start, report: Report, deadline: float) -> None:
    """Runs parts one after the other; the next one starts early and waits for the lock."""
    started = {}
    for number, part in enumerate(parts):
        if deadline - time.monotonic() < 5:
            report.lines.append(f'{part.name}: SKIPPED')
            if part.name in started:
                started[part.name].end()
            continue
        for one in parts[number:number + 2]:
            if one.name not in started:
                started[one.name] = start(one)
                time.sleep(1)  # so that they come to the lock in this order
        report.add(started[part.name],
                   started[part.name].wait(min(part.seconds, deadline - time.monotonic())))


def ratio(above: float | None, below: float | None, least: float) -> str:
    """A ratio, and whether it is at least ``least``."""
    if not above or not below:
        return '-'
    return f'{above / below:.2f} {"ok" if above / below >= least else "NO"}({least:g})'


def summary(notes: list[dict], rehearse: bool) -> list[str]:
    """The table of ratios, each with its promised least value."""
    steps = {(note['method'], note['pair']): note for note in notes if note['name'] == 'step'}
    fast = {(note['method'], note['pair']): note for note in notes if note['name'] == 'runner' and note['fast']}
    lines = ['| pair | method, rival | rival, ms | ours eager, ms | ours fast, ms | rival / eager | rival / fast '
             '| fast, images a second | graph | idle |\n' + '|---' * 10 + '|']
    for pair in pairs_of(rehearse):
        least = PAIRS.get(pair, 1)
        for method, rival, wanted in (('atsc', 'authors', (1, least)), ('aekt', 'dkd', (1, 2))):
            step, quick = steps.get((method, pair), {}), fast.get((method, pair), {})
            times = [step.get(rival), step.get('ours'), quick.get('seconds')]
            cells = [f'{1e3 * value:.2f}' if value else '-' for value in times]
            cells += [ratio(times[0], value, at_least) for value, at_least in zip(times[1:], wanted)]
            cells += [f'{quick["images"]:,.0f}', 'yes' if quick['graph'] else 'no'] if quick else ['-', '-']
            idle = quick.get('idle')
            cells.append('-' if idle is None else f'{100 * idle:.0f}% {"ok" if idle < 0.1 else "NO"}(10%)')
            lines.append(f'| {pair} | {method}, {rival} | {" | ".join(cells)} |')
    for note in notes:
        if note['name'] == 'losses':
            times = [f'{loss} {1e3 * note[loss]:.3f}' for loss in ('AEKTLoss', 'DKDLoss', 'KLDivergence')]
            lines.append(f'ms of the losses, {note["shape"]}: {", ".join(times)}')
        if note['name'] == 'curve' and note['mode'] != 'eager':
            lines.append(f'losses, {note["method"]}, {note["mode"]} to eager: {note["distance"]:.1e}, graph '
                         f'{"yes" if note["graph"] else "no"}')
    return lines


def gpu_line() -> str | None:
    """The GPU's name, driver and memory."""
    try:
        return subprocess.run(['nvidia-smi', '--query-gpu=name,driver_version,memory.total', '--format=csv,noheader'],
                              capture_output=True, text=True, timeout=20, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path)
    parser.add_argument('--rehearse', action='store_true', help='few steps of four images, as where there is no GPU')
    parser.add_argument('--deadline', type=float, default=240, help='seconds; a rehearsal has four times as many')
    parser.add_argument('--only', help='parts whose names match this regular expression')
    args = parser.parse_args(argv)
    begin = time.monotonic()
    args.out.mkdir(parents=True, exist_ok=True)
    numbers = (args.out / 'numbers.jsonl').resolve()
    numbers.unlink(missing_ok=True)
    report = Report(args.out)
    report.say(gpu_line() or 'no GPU')
    rehearse = args.rehearse or gpu_line() is None and not os.path.exists('/dev/nvidia0')
    slow = 4 if rehearse else 1
    end = begin + args.deadline * slow - 5

    def chosen(parts: list[Part]) -> list[Part]:
        return [part._replace(seconds=slow * part.seconds) for part in parts if re.search(args.only or '', part.name)]

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = dict(
            PYTHONPATH=search_path(), PYTHONUNBUFFERED='1', PYTHONWARNINGS='ignore', MMKD_BENCHMARK_NOTES=str(numbers),
            TORCHINDUCTOR_CACHE_DIR=os.environ.get('TORCHINDUCTOR_CACHE_DIR', str(folder / 'inductor')),
            TORCHINDUCTOR_COMPILE_THREADS='4')
        if rehearse:
            environment.update(CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1')
        timed = dict(environment, MMKD_BENCHMARK_LOCK=str(folder / 'lock'))
        run_together(chosen(parts_together(rehearse, folder)), lambda part: Running(part, folder, environment), report,
                     begin + 0.42 * (end - begin))
        run_alone(chosen(parts_alone(rehearse)), lambda part: Running(part, folder, timed), report, end)
    notes = [json.loads(line) for line in numbers.read_text().splitlines()] if numbers.is_file() else []
    report.say('\n## Summary' + ', A REHEARSAL: the numbers mean nothing' * rehearse)
    for line in [*report.lines, f'{time.monotonic() - begin:.0f} s in all', '', *summary(notes, rehearse)]:
        report.say(line)


if __name__ == '__main__':
    main()
