"""Shared by the benchmarks: times of rivals in turns, peak memory, launches, and a line about the machine."""
import argparse
import fcntl
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable

# The profiler's own chatter; both are read when torch is imported.
os.environ.setdefault('KINETO_LOG_LEVEL', '9')
os.environ.setdefault('TORCH_CPP_LOG_LEVEL', 'ERROR')

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

import mmkd_atsc  # noqa: F401  makes mmrazor importable
from mmkd_atsc.errors.checks import check_number

Step = Callable[[], object]
CPU = torch.device('cpu')
GPU_BLOCK = 20


def default_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device('cuda') if torch.cuda.is_available() else CPU


def set_tf32(allowed: bool) -> None:
    """Whether a GPU may round fp32 products to TF32; PyTorch lets convolutions do so, and "fp32" would not be fp32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that :func:`prepare` reads."""
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--threads', type=int, help="default: torch's")
    parser.add_argument('--tf32', action='store_true', help='fp32 products may be rounded to TF32 on a GPU, for all')


def prepare(args: argparse.Namespace) -> torch.device:
    """Checks the shared arguments, waits for other benchmarks, and returns the device to measure on."""
    check_number('--batch', args.batch, 2, integer=True)
    if args.threads is not None:
        torch.set_num_threads(check_number('--threads', args.threads, 1, integer=True))
    set_tf32(args.tf32)
    torch.backends.cudnn.benchmark = True  # as our configs and the authors' script set it
    have_alone()
    return default_device()


def have_alone() -> None:
    """Waits until no other benchmark measures, where ``MMKD_BENCHMARK_LOCK`` names a file."""
    path = os.environ.get('MMKD_BENCHMARK_LOCK')
    if path:
        fcntl.flock(os.open(path, os.O_CREAT | os.O_RDWR), fcntl.LOCK_EX)  # held until this process ends


def note(name: str, **numbers: object) -> None:
    """Adds a line of JSON to the file that ``MMKD_BENCHMARK_NOTES`` names, for a script that compares several runs."""
    path = os.environ.get('MMKD_BENCHMARK_NOTES')
    if path:
        with open(path, 'a', encoding='utf-8') as file:
            file.write(json.dumps(dict(name=name, **numbers)) + '\n')


def block_of(device: torch.device) -> int:
    """Steps of a turn: many on a GPU, so that the wait at the end of a turn costs little."""
    return GPU_BLOCK if device.type == 'cuda' else 1


def median_times(steps: dict[str, Step], repeats: int, warmup: int = 2, block: int = 1,
                 clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Seconds of a step: the median over ``repeats`` turns of ``block`` steps.

    The rivals take turns, so that other load on the machine meets all of them alike. The first turns do not count.
    For what runs on the caller's thread alone, ``time.thread_time`` as ``clock`` leaves other load out.
    """
    times: dict[str, list] = {name: [] for name in steps}
    for turn in range(repeats + warmup):
        for name, step in steps.items():
            wait()
            start = clock()
            for _ in range(block):
                step()
            wait()
            if turn >= warmup:
                times[name].append((clock() - start) / block)
    return {name: statistics.median(values) for name, values in times.items()}


def in_ms(times: dict[str, float]) -> dict[str, str]:
    """Seconds as milliseconds with three digits.

    >>> in_ms(dict(ours=1.4731, floor=0.0037624))
    {'ours': '1473', 'floor': '3.76'}
    """
    return {name: f'{1e3 * value:.0f}' if value >= 0.1 else f'{1e3 * value:.3g}' for name, value in times.items()}


def table_line(cells: Iterable[object]) -> str:
    """A line of a Markdown table."""
    return f'| {" | ".join(map(str, cells))} |'


def wait() -> None:
    """Waits until the GPU is idle, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_memory(step: Step, device: torch.device = CPU) -> int:
    """The most bytes that a step holds on its device, beyond those before it."""
    step()
    if device.type == 'cuda':
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == '[memory]']
    held, peak = 0, 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


class _OperatorCount(TorchDispatchMode):
    """Counts operators that compute or copy: about one kernel each on a GPU."""

    # views, memory that is not written yet, and checks of the CPU
    NO_KERNEL = frozenset(
        'view _unsafe_view expand unsqueeze squeeze unbind select slice split as_strided t transpose '
        'permute detach alias empty empty_like empty_strided new_empty new_empty_strided '
        'promote_types aminmax _local_scalar_dense'.split())

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ not in self.NO_KERNEL
        return func(*args, **(kwargs or {}))


def count_launches(step: Step, device: torch.device = CPU) -> int:
    """Kernels, copies and fills that a step starts on a GPU; on the CPU the operators that would start them.

    >>> count_launches(lambda: (torch.ones(3) + 1).view(3, 1) * 2)
    3
    """
    step()
    if device.type != 'cuda':
        with _OperatorCount() as operators:
            step()
        return operators.count
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        step()
        wait()
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profiler.events())


def environment(device: torch.device | None = None) -> str:
    """One line: versions of PyTorch and Python, threads, processor, and the GPU if ``device`` (default) is one."""
    parts = [f'torch {torch.__version__}', f'Python {platform.python_version()}']
    if (device or default_device()).type == 'cuda':
        tf32 = torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
        parts += [torch.cuda.get_device_name(), f'TF32 {"on" if tf32 else "off"}']
    threads = torch.get_num_threads()
    return ', '.join([*parts, f'{threads} thread{"s" * (threads > 1)}', processor()])


def processor() -> str:
    """The name of the CPU."""
    try:
        with open('/proc/cpuinfo') as file:
            return next(line.split(':', 1)[1].strip() for line in file if line.startswith('model name'))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
