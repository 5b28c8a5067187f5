"""The benchmarks run and print their ratios; no test asserts a speed. Their work on a GPU is simulated."""
import importlib
import re
import sys
import time

import pytest
import torch

from tests.conftest import ROOT, run_here


@pytest.fixture
def bench(monkeypatch):
    """The benchmarks' modules by name."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools' / 'benchmark'))
    matmul, cudnn, threads = torch.backends.cuda.matmul, torch.backends.cudnn, torch.get_num_threads()
    flags = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    yield importlib.import_module
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = flags
    torch.set_num_threads(threads)


@pytest.mark.parametrize('name, args, rows', [
    ('step.py', ['--pairs', 'resnet14_resnet8', '--batch', 2, '--repeats', 1], 2),
    ('losses.py', ['--shapes', '4x10', '8x5', '--repeats', 1], 2),
    ('profile_step.py', ['--pairs', 'wrn_40_2_wrn_40_1', '--methods', 'atsc', '--batch', 2, '--warmup', 2,
                         '--steps', 1, '--record', 0], 1),
    ('curves.py', ['--pair', 'wrn_40_2_wrn_40_1', '--methods', 'aekt', '--modes', 'graph', '--batch', 2,
                   '--steps', 2], 2),
])
def test_a_table_is_printed(bench, capsys, monkeypatch, name, args, rows):
    monkeypatch.setattr(torch, 'use_deterministic_algorithms', lambda *args, **kwargs: None)
    run_here(f'benchmark/{name}', *args)
    said = capsys.readouterr().out
    assert f'torch {torch.__version__}, Python' in said
    assert len(re.findall(r'^\| .*\d.* \|$', said, re.M)) == rows, said


def test_aekt_launches_no_more_than_dkd_and_needs_two_thirds_of_its_memory(bench):
    losses, measure = bench('losses'), bench('measure')
    launches = {name: measure.count_launches(step) for name, step in losses.make_steps(64, 100).items()}
    assert 30 < launches['AEKTLoss'] <= launches['DKDLoss']
    memory = {name: measure.peak_memory(step) for name, step in losses.make_steps(16, 21841).items()}
    assert 0 < memory['AEKTLoss'] <= memory['DKDLoss'] * 2 / 3


def event(category, name, begin, duration):
    return dict(ph='X', cat=category, name=name, ts=begin, dur=duration)


def test_events_of_a_trace_are_counted(bench):
    profile_step = bench('profile_step')
    events = [
        event('cuda_runtime', 'cudaDeviceSynchronize', 1, 5),  # the profiler's own, before the steps
        event('user_annotation', profile_step.MARK, 10, 80),
        event('gpu_user_annotation', profile_step.MARK, 22, 78),
        event('cuda_runtime', 'cudaMemcpyAsync', 12, 2),
        event('cuda_runtime', 'cudaLaunchKernel', 15, 1),
        event('cuda_runtime', 'cudaStreamSynchronize', 40, 20),
        event('cuda_runtime', 'cudaMemcpy_v3020', 63, 1),
        event('cuda_driver', 'cuCtxSynchronize', 70, 1),
        event('cuda_runtime', 'cudaDeviceSynchronize', 95, 10),  # and after them
        event('gpu_memcpy', 'Memcpy HtoD (Pinned -> Device)', 20, 10),
        event('gpu_memcpy', 'Memcpy HtoD (Pageable -> Device)', 30, 2),
        event('gpu_memcpy', 'Memcpy DtoH (Device -> Pageable)', 60, 1),
        event('gpu_memset', 'Memset (Device)', 61, 2),
        event('kernel', 'sgemm', 40, 10),
        event('kernel', 'relu', 45, 10),  # on another stream, half of it at the same time
        event('kernel', 'sgd', 90, 10),  # still running after Python has ended the steps
    ]
    counts = profile_step.count_events(events)
    assert counts.kernels == 3
    assert counts.to_gpu == {'Memcpy HtoD (Pinned -> Device)': 1, 'Memcpy HtoD (Pageable -> Device)': 1}
    assert counts.from_gpu == {'Memcpy DtoH (Device -> Pageable)': 1}
    assert counts.waits == {'cudaStreamSynchronize': 1, 'cudaMemcpy_v3020': 1, 'cuCtxSynchronize': 1}
    assert counts.idle == pytest.approx(1 - (12 + 15 + 3 + 10) / 90)
    assert counts.busy == pytest.approx(40e-6)


SLEEP = 'import time; print("asleep", flush=True); time.sleep(100)'
FAIL = 'print("FAILED tests/a.py::b"); raise SystemExit(3)'


@pytest.mark.parametrize('run', ['run_together', 'run_alone'])
def test_a_part_that_fails_or_hangs_does_not_stop_the_others(bench, tmp_path, capsys, run):
    gpu = bench('gpu')
    parts = [gpu.Part(f'part {number}', [sys.executable, '-c', code], seconds) for number, (code, seconds) in enumerate(
        [(FAIL, 60), (SLEEP, 2), ('import os; os.environ["LOCK"]', 60)])]
    report = gpu.Report(tmp_path)
    getattr(gpu, run)(parts, lambda part: gpu.Running(part, tmp_path, dict(LOCK=str(tmp_path))), report,
                      time.monotonic() + 60)
    assert [re.sub(r', \d+ s', '', line) for line in sorted(report.lines)] == [
        'part 0: FAILED, exit code 3', 'part 1: FAILED, out of time', 'part 2: ok']
    printed = capsys.readouterr().out
    assert 'tests/a.py::b' in printed and 'asleep' in printed
