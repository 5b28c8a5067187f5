"""Times a training step by MMEngine's runner, and counts what the GPU does in it.

python tools/benchmark/profile_step.py --pairs resnet32x4_resnet8x4 --fast

A step is an iteration of the pair's config with data, ``train_step``, hooks and log, as it trains or as by
``tools/train.py --fast``. After a warm-up, which compiles and captures everything, some steps are timed. Then some are
recorded by torch's profiler and ``torch.cuda.set_sync_debug_mode``. Recording takes Python's time, so its idle share is
an upper bound; the other one is what the recorded GPU work leaves of a timed step. Without a GPU there are only times.
"""
import argparse
import contextlib
import json
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from measure import add_arguments, environment, in_ms, note, prepare, table_line

# The module beside this one must come before torch.
# isort: split

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from runs import METHODS, Stopwatch, split_pair, train, training_config
from torch.profiler import profile, record_function

from mmkd_atsc import cli
from mmkd_atsc.errors.checks import check_choice, check_number

MARK = 'recorded steps'
ON_GPU = ('kernel', 'gpu_memcpy', 'gpu_memset')
# Calls of the driver that wait for the GPU, beside all with 'Synchronize' in their names.
WAITING = ('cudaMemcpy', 'cudaMemcpy2D', 'cudaFree', 'cudaFreeHost', 'hipMemcpy', 'hipFree', 'hipHostFree')


class Counts(NamedTuple):
    """GPU work and waits between the beginning and the end of :data:`MARK`; ``busy`` in seconds."""

    kernels: int
    to_gpu: Counter
    from_gpu: Counter
    waits: Counter
    idle: float
    busy: float


def count_events(events: Iterable[dict]) -> Counts:
    """Counts the events of a trace in Chrome's format, times in microseconds.

    The idle share is of the time from the mark's beginning to its end, or to the end of the GPU's last work if later.

    >>> count_events([dict(cat='user_annotation', name=MARK, ts=0, dur=8), dict(cat='kernel', name='gemm', ts=1, dur=2),
    ...               dict(cat='kernel', name='relu', ts=2, dur=6)])
    Counts(kernels=2, to_gpu=Counter(), from_gpu=Counter(), waits=Counter(), idle=0.125, busy=7e-06)
    """
    events = [event for event in events if 'dur' in event and 'cat' in event]
    begin, end = next(span(event) for event in events if (event['cat'], event['name']) == ('user_annotation', MARK))
    work = [event for event in events if event['cat'] in ON_GPU]  # the GPU had nothing else to do when it began
    calls = [event['name'] for event in events
             if event['cat'] in ('cuda_runtime', 'cuda_driver') and begin <= event['ts'] <= end]
    copies = [event['name'] for event in work if event['cat'] == 'gpu_memcpy']
    end, busy = max([end, *(span(event)[1] for event in work)]), covered(map(span, work))
    return Counts(sum(event['cat'] == 'kernel' for event in work),
                  Counter(name for name in copies if 'HtoD' in name or 'HostToDevice' in name),
                  Counter(name for name in copies if 'DtoH' in name or 'DeviceToHost' in name),
                  Counter(name for name in calls if 'Synchronize' in name or name.split('_')[0] in WAITING),
                  1 - busy / (end - begin), busy / 1e6)


def span(event: dict) -> tuple[float, float]:
    return event['ts'], event['ts'] + event['dur']


def covered(spans: Iterable[tuple[float, float]]) -> float:
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
        self.events: list[dict] = []
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


class Measured(NamedTuple):
    """Seconds of a step, whether it was a graph's, and what ``args.record`` recorded steps did."""

    seconds: float
    has_graph: bool
    counts: Counts | None
    places: Counter


def measure(method: str, pair: str, args: argparse.Namespace) -> Measured:
    """Trains until the steps are timed and recorded; the epoch has one iteration more, because its end waits."""
    watch = Stopwatch(args.warmup, args.steps)
    recorder = StepRecorder(args.warmup + args.steps, args.record, args.sync)
    hooks = [watch, *[recorder] * (torch.cuda.is_available() and args.record > 0)]
    images, counts = args.batch * (args.warmup + args.steps + args.record + 1), None
    try:
        train(training_config(method, pair, args.batch, images, args.fast), *hooks)
        counts = count_events(recorder.events) if recorder.events else None
    except Exception as error:  # a failing profiler must not lose the times
        if not hasattr(watch, 'seconds') or args.sync == 'error':
            raise
        print(f'{method} {pair}: not recorded: {type(error).__name__}: {error}')
    return Measured(watch.seconds / args.steps, watch.has_graph, counts, recorder.places)


def row(method: str, pair: str, measured: Measured, args: argparse.Namespace) -> str:
    """A line of the table: numbers of one step."""
    seconds, counts = measured.seconds, measured.counts
    cells = [method, pair, in_ms(dict(step=seconds))['step'], f'{args.batch / seconds:,.0f}',
             'yes' if measured.has_graph else 'no']
    if counts is None:
        return table_line([*cells, *6 * '-'])
    cells += [f'{(sum(value.values()) if isinstance(value, Counter) else value) / args.record:g}'
              for value in counts[:4]]
    return table_line([*cells, f'{100 * counts.idle:.0f}%', f'{100 * idle_share(measured, args.record):.0f}%'])


def idle_share(measured: Measured, recorded: int) -> float:
    """What the GPU's work leaves of a step as it was timed."""
    return max(0.0, 1 - measured.counts.busy / recorded / measured.seconds)


def details(counts: Counts, places: Counter, steps: int) -> list[str]:
    """Copies and waits by name, and the places in the code where PyTorch noticed a wait."""
    return [f'{count / steps:g} a step: {name}'
            for names in (counts.to_gpu, counts.from_gpu, counts.waits, places) for name, count in names.most_common()]


def main(argv: list[str] | None = None) -> None:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pairs', nargs='+', default=['resnet32x4_resnet8x4'], help='of configs/atsc and configs/aekt')
    parser.add_argument('--methods', nargs='+', default=list(METHODS))
    parser.add_argument('--fast', action='store_true', help='as tools/train.py --fast')
    parser.add_argument('--warmup', type=int, default=60, help='iterations before')
    parser.add_argument('--steps', type=int, default=300, help='iterations that are timed')
    parser.add_argument('--record', type=int, default=20, help='iterations that are recorded on a GPU')
    parser.add_argument('--sync', default='warn', help='warn: list where PyTorch waits for the GPU; error: end there')
    add_arguments(parser)
    args = parser.parse_args(argv)
    with cli.one_line_errors():
        for method in args.methods:
            check_choice('--methods', method, METHODS)
        for pair in args.pairs:
            split_pair(pair)
        check_number('--warmup', args.warmup, 2, integer=True)
        check_number('--steps', args.steps, 1, integer=True)
        check_number('--record', args.record, 0, integer=True)
        check_choice('--sync', args.sync, ('warn', 'error'))
        device = prepare(args)
        print(f'{environment(device)}; batch {args.batch}, {"fast" if args.fast else "as the config has it"}, '
              f'one of {args.steps} steps\n')
        print('| method | pair | ms | images a second | graph | kernels | copies to the GPU | copies from the GPU '
              '| waits for the GPU | idle, recorded | idle |\n' + '|---' * 11 + '|')
        lines = []
        for pair in args.pairs:
            for method in args.methods:
                # Compiled code shares one limit in a process, beyond which all silently runs uncompiled.
                torch.compiler.reset()
                measured = measure(method, pair, args)
                print(row(method, pair, measured, args), flush=True)
                note('runner', method=method, pair=pair, fast=args.fast, seconds=measured.seconds,
                     graph=measured.has_graph, images=args.batch / measured.seconds,
                     idle=idle_share(measured, args.record) if measured.counts else None)
                if measured.counts:
                    lines += [f'{method} {pair}: {line}'
                              for line in details(measured.counts, measured.places, args.record)]
        print('\n' + '\n'.join(lines))


if __name__ == '__main__':
    main()
