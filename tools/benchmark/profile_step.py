"""What a GPU does in one training step: kernels, copies, what waited for it, and how long it had nothing to do.

python tools/benchmark/profile_step.py --pair resnet32x4_resnet8x4 --amp --cuda-graphs

A step is an iteration of the pair's config by MMEngine's runner: the batch from the data set, ``train_step``, and all
hooks, without a line for the log. After a warm-up some steps in a row are recorded by torch's profiler and with
``torch.cuda.set_sync_debug_mode``, and the numbers are those of one. --sync error ends at the first wait that PyTorch
notices (MMKD_TRACEBACK=1 shows where). Recording takes Python's time, so the GPU's idle share is an upper bound.
"""
import argparse
import contextlib
import json
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, Iterable, List, NamedTuple, Optional, Tuple

from measure import environment

# The module beside this one must come before torch.
# isort: split

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from runs import train, training_config
from steps import split_pair
from switches import Switches, add_arguments, add_switches, forget_compiled, prepare, read_switches
from torch.profiler import profile, record_function

from mmkd_atsc import cli
from mmkd_atsc.errors.checks import check_choice, check_number

MARK = 'recorded steps'
ON_GPU = ('kernel', 'gpu_memcpy', 'gpu_memset')
# Calls of the driver that wait for the GPU, beside all with 'Synchronize' in their names.
WAITING = ('cudaMemcpy', 'cudaMemcpy2D', 'cudaFree', 'cudaFreeHost', 'hipMemcpy', 'hipFree', 'hipHostFree')
METHODS = ('atsc', 'aekt')


class Counts(NamedTuple):
    """What happened between the beginning and the end of :data:`MARK`."""

    kernels: int
    to_gpu: Counter
    from_gpu: Counter
    waits: Counter
    idle: float


def count_events(events: Iterable[dict]) -> Counts:
    """Reads the events of a trace in Chrome's format, times in microseconds, as torch's profiler exports them.

    The idle share is of the time from the mark's beginning to its end, or to that of the GPU's last work if later.

    >>> count_events([dict(cat='user_annotation', name=MARK, ts=0, dur=8), dict(cat='kernel', name='gemm', ts=1, dur=2),
    ...               dict(cat='kernel', name='relu', ts=2, dur=6)])
    Counts(kernels=2, to_gpu=Counter(), from_gpu=Counter(), waits=Counter(), idle=0.125)
    """
    events = [event for event in events if 'dur' in event and 'cat' in event]
    begin, end = next(span(event) for event in events if (event['cat'], event['name']) == ('user_annotation', MARK))
    work = [event for event in events if event['cat'] in ON_GPU]  # the GPU had nothing else to do when it began
    calls = [event['name'] for event in events
             if event['cat'] in ('cuda_runtime', 'cuda_driver') and begin <= event['ts'] <= end]
    copies = [event['name'] for event in work if event['cat'] == 'gpu_memcpy']
    end = max([end, *(span(event)[1] for event in work)])
    return Counts(sum(event['cat'] == 'kernel' for event in work),
                  Counter(name for name in copies if 'HtoD' in name or 'HostToDevice' in name),
                  Counter(name for name in copies if 'DtoH' in name or 'DeviceToHost' in name),
                  Counter(name for name in calls if 'Synchronize' in name or name.split('_')[0] in WAITING),
                  1 - covered(map(span, work)) / (end - begin))


def span(event: dict) -> Tuple[float, float]:
    return event['ts'], event['ts'] + event['dur']


def covered(spans: Iterable[Tuple[float, float]]) -> float:
    """How long at least one of the spans lasts.

    >>> covered([(5, 6), (0, 2), (1, 3), (1, 2)])
    4.0
    """
    total, until = 0.0, float('-inf')
    for begin, end in sorted(spans):
        total += max(0, end - max(begin, until))
        until = max(until, end)
    return total


class StepRecorder(Hook):
    """Records whole iterations, from the end of one to the end of another."""

    priority = 'LOWEST'

    def __init__(self, warmup: int, steps: int, sync: str) -> None:
        self.warmup, self.steps, self.sync = warmup, steps, sync
        self.events: List[dict] = []
        self.places: Counter = Counter()
        self._recording = contextlib.ExitStack()

    def after_train_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        if batch_idx == self.warmup - 1:
            self.start()
        elif batch_idx == self.warmup + self.steps - 1:
            self.stop()

    def start(self) -> None:
        torch.cuda.synchronize()
        self._profiler = self._recording.enter_context(profile())
        self._warnings = self._recording.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode(self.sync)
        self._recording.callback(torch.cuda.set_sync_debug_mode, 'default')
        self._recording.enter_context(record_function(MARK))

    def stop(self) -> None:
        self._recording.close()
        self.places = Counter(f'{warning.filename}:{warning.lineno}' for warning in self._warnings
                              if 'synchronizing CUDA operation' in str(warning.message))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, 'trace.json')
            self._profiler.export_chrome_trace(str(path))
            self.events = json.loads(path.read_text(encoding='utf-8'))['traceEvents']


def record(method: str, args: argparse.Namespace, switches: Switches) -> StepRecorder:
    """Trains until the steps are recorded; the epoch has an iteration more, because its end waits for the GPU."""
    images = args.batch * (args.warmup + args.steps + 1)
    recorder = StepRecorder(args.warmup, args.steps, args.sync)
    train(training_config(method, args.pair, args.batch, images, switches), recorder)
    return recorder


def row(method: str, counts: Counts, steps: int) -> str:
    """A line of the table: numbers of one step."""
    cells = [method, *(f'{sum(value.values()) / steps:g}' if isinstance(value, Counter) else f'{value / steps:g}'
                       for value in counts[:4]), f'{100 * counts.idle:.0f}%']
    return f'| {" | ".join(cells)} |'


def details(method: str, counts: Counts, places: Counter, steps: int) -> List[str]:
    """What was copied and waited for, by name, and where in the code PyTorch noticed a wait."""
    return [f'{method}: {count / steps:g} a step: {name}'
            for names in (counts.to_gpu, counts.from_gpu, counts.waits, places) for name, count in names.most_common()]


def main(argv: Optional[List[str]] = None) -> None:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pair', default='resnet32x4_resnet8x4', help='of configs/atsc and configs/aekt')
    parser.add_argument('--methods', nargs='+', default=list(METHODS))
    parser.add_argument('--warmup', type=int, default=30, help='iterations before, for what is compiled and tried out')
    parser.add_argument('--steps', type=int, default=5, help='iterations that are recorded')
    parser.add_argument('--sync', default='warn', help='warn: list where PyTorch waits for the GPU; error: end there')
    add_arguments(parser)
    add_switches(parser)
    args = parser.parse_args(argv)
    with cli.one_line_errors():
        for method in args.methods:
            check_choice('--methods', method, METHODS)
        split_pair(args.pair)
        # Together fewer than the hundred iterations after which a line is logged and the teacher's drift measured.
        check_number('--warmup', args.warmup, 2, 60, integer=True)
        check_number('--steps', args.steps, 1, 30, integer=True)
        check_choice('--sync', args.sync, ('warn', 'error'))
        if not torch.cuda.is_available():
            raise ValueError('profile_step.py needs a GPU, and PyTorch finds none on this machine')
        device, switches = prepare(args), read_switches(args)
        print(f'{environment(device)}; {args.pair}, batch {args.batch}, {switches}, one of {args.steps} steps\n')
        print('| method | kernels | copies to the GPU | copies from the GPU | waits for the GPU | GPU idle |\n'
              '|---|---:|---:|---:|---:|---:|')
        lines = []
        for method in args.methods:
            forget_compiled()
            recorder = record(method, args, switches)
            counts = count_events(recorder.events)
            print(row(method, counts, args.steps), flush=True)
            lines += details(method, counts, recorder.places, args.steps)
        print('\n' + '\n'.join(lines))


if __name__ == '__main__':
    main()
