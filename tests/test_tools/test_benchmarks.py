"""The benchmarks run and print their ratios; how fast they are is nobody's test. What they do on a GPU is simulated."""
import argparse
import importlib
import re
import sys
import time
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from tests.conftest import ROOT, refusal, run_here

SMALL = dict(pair='wrn_40_2_wrn_40_1', batch=2)


@pytest.fixture
def bench(monkeypatch):
    """The benchmarks' modules by name."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools' / 'benchmark'))
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    flags = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    yield importlib.import_module
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = flags


@pytest.mark.parametrize('name, args, rows', [
    ('step.py', ['--pairs', 'resnet14_resnet8', '--batch', 2, '--repeats', 1], 2),
    ('train.py', ['--pair', 'wrn_40_2_wrn_40_1', '--batch', 2, '--images', 6], 3),
])
def test_a_table_of_ratios_is_printed(bench, capsys, name, args, rows):
    run_here(f'benchmark/{name}', *args)
    said = capsys.readouterr().out
    assert re.search(r'torch \d', said)
    assert len(re.findall(r'^\|.*\|\s*\d+(\.\d\d)? \|$', said, re.M)) == rows, said
    for rate, minutes in re.findall(r'^\| [^|]+ \| ([\d.]+) \| ([\d.]+) \| [\d.]+ \|$', said, re.M):
        # 240 epochs of 50,000 images; both numbers are rounded.
        assert float(minutes) * float(rate) * 60 == pytest.approx(12e6, rel=0.06 / float(rate) + 0.001)


@pytest.mark.parametrize('name, argv, words', [
    ('step', ['--pairs', 'resnet9_resnet8'], 'resnet9_resnet8'),
    ('step', ['--methods', 'kd'], "--methods='kd' is not one of 'atsc', 'aekt'"),
    ('curves', ['--modes', 'slow'], "--modes='slow' is not one of 'eager', 'eager again', 'graph', 'fast'"),
    ('profile_step', ['--sync', 'off'], "--sync='off' is not one of 'warn', 'error'"),
    ('train', ['--images', '64'], '--images=64 must be an integer at least 192'),
])
def test_what_cannot_be_measured_is_said_in_one_line(bench, capsys, name, argv, words):
    assert words in refusal(capsys, f'benchmark/{name}.py', *argv)


# ---------------------------------------------------------------- where it is measured


# ---------------------------------------------------------------- what is compared


# ---------------------------------------------------------------- one step on a GPU


def event(category, name, begin, duration):
    return dict(ph='X', cat=category, name=name, ts=begin, dur=duration)


def test_events_of_a_trace_are_counted(bench):
    profile_step = bench('profile_step')
    events = [
        dict(ph='M', name='process_name', ts=0),
        event('cuda_runtime', 'cudaDeviceSynchronize', 1, 5),  # the profiler's own, before the steps
        event('user_annotation', profile_step.MARK, 10, 80),
        event('gpu_user_annotation', profile_step.MARK, 22, 78),
        event('cpu_op', 'aten::to', 11, 5),
        event('cuda_runtime', 'cudaMemcpyAsync', 12, 2),
        event('cuda_runtime', 'cudaLaunchKernel', 15, 1),
        event('cuda_runtime', 'cudaStreamSynchronize', 40, 20),
        event('cuda_runtime', 'cudaStreamSynchronize', 61, 1),
        event('cuda_runtime', 'cudaMemcpy_v3020', 63, 1),
        event('cuda_driver', 'cuCtxSynchronize', 70, 1),
        event('cuda_runtime', 'cudaDeviceSynchronize', 95, 10),  # and after them
        event('gpu_memcpy', 'Memcpy HtoD (Pinned -> Device)', 20, 10),
        event('gpu_memcpy', 'Memcpy HtoD (Pageable -> Device)', 30, 2),
        event('gpu_memcpy', 'Memcpy HtoD (Pinned -> Device)', 32, 2),
        event('gpu_memcpy', 'Memcpy DtoH (Device -> Pageable)', 60, 1),
        event('gpu_memcpy', 'Memcpy DtoD (Device -> Device)', 61, 1),
        event('gpu_memset', 'Memset (Device)', 62, 1),
        event('kernel', 'sgemm', 40, 10),
        event('kernel', 'relu', 45, 10),  # on another stream, half of it at the same time
        event('kernel', 'sgd', 90, 10),  # still running after Python has ended the steps
    ]
    counts = profile_step.count_events(events)
    assert counts.kernels == 3
    assert counts.to_gpu == {'Memcpy HtoD (Pinned -> Device)': 2, 'Memcpy HtoD (Pageable -> Device)': 1}
    assert counts.from_gpu == {'Memcpy DtoH (Device -> Pageable)': 1}
    assert counts.waits == {'cudaStreamSynchronize': 2, 'cudaMemcpy_v3020': 1, 'cuCtxSynchronize': 1}
    assert counts.idle == pytest.approx(1 - (14 + 15 + 3 + 10) / 90)
    assert counts.busy == pytest.approx(42e-6)
    measured, args = profile_step.Measured(28e-6, True, counts, Counter()), argparse.Namespace(record=2, batch=7)
    assert profile_step.row('atsc', 'a_b', measured, args) == (
        '| atsc | a_b | 0.028 | 250,000 | yes | 1.5 | 1.5 | 0.5 | 2 | 53% | 25% |')
    lines = profile_step.details(counts, Counter({'hook.py:7': 2}), 2)
    assert lines[0] == '1 a step: Memcpy HtoD (Pinned -> Device)'
    assert lines[-1] == '1 a step: hook.py:7' and len(lines) == 7


# ---------------------------------------------------------------- all of it in one command


@pytest.fixture
def gpu(bench, tmp_path):
    """The script, with functions that run commands of Python as its parts do."""
    module = bench('gpu')
    report = module.Report(tmp_path)

    def parts(*codes, seconds=60):
        return [module.Part(f'part {number}', [sys.executable, '-c', code], seconds)
                for number, code in enumerate(codes)]

    def start(part):
        return module.Running(part, tmp_path, dict(LOCK=str(tmp_path)))

    return SimpleNamespace(module=module, report=report, parts=parts, start=start)


SLEEP = 'import time; print("asleep", flush=True); time.sleep(100)'


@pytest.mark.parametrize('run', ['run_together', 'run_alone'])
def test_a_part_that_fails_or_hangs_does_not_stop_the_others(gpu, capsys, run):
    fail, work = 'print("FAILED tests/a.py::b"); raise SystemExit(3)', 'import os; os.environ["LOCK"]'
    parts = gpu.parts(fail, SLEEP, work)
    parts[1] = parts[1]._replace(seconds=2)
    getattr(gpu.module, run)(parts, gpu.start, gpu.report, time.monotonic() + 60)
    said = [re.sub(r', \d+ s', '', line) for line in sorted(gpu.report.lines)]
    assert said == ['part 0: FAILED, exit code 3', 'part 1: FAILED, out of time', 'part 2: ok']
    printed = capsys.readouterr().out
    assert 'tests/a.py::b' in printed and 'asleep' in printed
