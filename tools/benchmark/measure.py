"""What the benchmarks share: rivals that take turns, memory, and the line that says where it was measured."""
import os
import platform
import statistics
import time
from typing import Callable, Dict

# The profiler's own chatter; both are read when torch is imported.
os.environ.setdefault('KINETO_LOG_LEVEL', '9')
os.environ.setdefault('TORCH_CPP_LOG_LEVEL', 'ERROR')

import torch
from torch.profiler import ProfilerActivity, profile

Step = Callable[[], object]


def median_times(steps: Dict[str, Step], repeats: int, warmup: int = 2) -> Dict[str, float]:
    """Seconds a step, the median over ``repeats`` turns.

    The rivals take turns, so that whatever slows the machine down meets all of them alike; the first turns, which also
    pay for what is set up once, do not count.
    """
    times: Dict[str, list] = {name: [] for name in steps}
    for turn in range(repeats + warmup):
        for name, step in steps.items():
            _wait()
            start = time.perf_counter()
            step()
            _wait()
            if turn >= warmup:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_memory(step: Step) -> int:
    """Bytes that a step holds at once, at most, beyond what was there before it."""
    step()
    if torch.cuda.is_available():
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


def environment() -> str:
    """PyTorch, threads or GPU, Python and processor, in a line."""
    where = (torch.cuda.get_device_name() if torch.cuda.is_available()
             else f'{torch.get_num_threads()} thread{"s" * (torch.get_num_threads() > 1)}, {_processor()}')
    return f'torch {torch.__version__}, Python {platform.python_version()}, {where}'


def _processor() -> str:
    try:
        with open('/proc/cpuinfo') as file:
            return next(line.split(':', 1)[1].strip() for line in file if line.startswith('model name'))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
