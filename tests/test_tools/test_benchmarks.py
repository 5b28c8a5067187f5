"""The benchmarks run and print their ratios; how fast they are is nobody's test. What they do on a GPU is simulated."""
import argparse
import importlib
import re
import sys
import time
import warnings
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from mmkd_atsc.runtime.accelerate import AccelerateHook
from tests.conftest import ROOT, assert_one_line_error, run_tool, tool

SMALL = dict(pair='wrn_40_2_wrn_40_1', batch=2)


@pytest.fixture
def bench(monkeypatch):
    """The benchmarks' modules by name."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools' / 'benchmark'))
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    flags = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    yield importlib.import_module
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = flags


@pytest.fixture
def calls(monkeypatch):
    """A GPU that is told from the CPU by the calls that reach it."""
    made = []
    for name in ('synchronize', 'set_sync_debug_mode', 'reset_peak_memory_stats'):
        monkeypatch.setattr(torch.cuda, name, lambda *args, name=name: made.append((name, *args)))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda *args: 'NVIDIA H200')
    monkeypatch.setattr(torch.cuda, 'memory_allocated', lambda *args: 100)
    monkeypatch.setattr(torch.cuda, 'max_memory_allocated', lambda *args: 164)
    return made


@pytest.mark.parametrize('tool, args, rows', [
    ('step.py', ['--pairs', 'resnet14_resnet8', '--batch', 2, '--repeats', 1], 2),
    ('step.py', ['--brief', '--methods', 'aekt', '--pairs', 'resnet14_resnet8', '--batch', 2, '--repeats', 1], 1),
    ('train.py', ['--pair', 'wrn_40_2_wrn_40_1', '--batch', 2, '--images', 6], 3),
    ('losses.py', ['--shapes', '8x10', '--threads', 1], 1),
])
def test_a_table_of_ratios_is_printed(tool, args, rows):
    done = run_tool(f'benchmark/{tool}', *args)
    assert done.returncode == 0, done.stderr
    assert re.search(r'torch \d', done.stdout)
    assert len(re.findall(r'^\|.*\|\s*\d+(\.\d\d)? \|$', done.stdout, re.M)) == rows, done.stdout
    for rate, minutes in re.findall(r'^\| [^|]+ \| ([\d.]+) \| ([\d.]+) \| [\d.]+ \|$', done.stdout, re.M):
        # 240 epochs of 50,000 images; both numbers are rounded.
        assert float(minutes) * float(rate) * 60 == pytest.approx(12e6, rel=0.06 / float(rate) + 0.001)


def test_what_is_not_known_is_refused():
    assert_one_line_error(run_tool('benchmark/step.py', '--pairs', 'resnet9_resnet8'), 'resnet9_resnet8')


@pytest.mark.parametrize('name, argv, words', [
    ('step', ['--methods', 'kd'], "--methods='kd' is not one of 'atsc', 'aekt'"),
    ('curves', ['--modes', 'slow'], "--modes='slow' is not one of 'eager', 'eager again', 'graph', 'fast'"),
    ('profile_step', ['--sync', 'off'], "--sync='off' is not one of 'warn', 'error'"),
    ('profile_step', ['--methods', 'kd'], "--methods='kd' is not one of 'atsc', 'aekt'"),
    ('profile_step', ['--warmup', '1'], '--warmup=1 must be an integer at least 2'),
    ('train', ['--images', '64'], '--images=64 must be an integer at least 192'),
    ('losses', ['--repeats', '0'], '--repeats=0 must be an integer at least 1'),
])
def test_what_this_machine_cannot_do_is_said_in_one_line(bench, monkeypatch, capsys, name, argv, words):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit) as ended:
        tool(f'benchmark/{name}.py')['main'](argv)
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.startswith('error: ') and error.count('\n') == 1 and words in error


# ---------------------------------------------------------------- where it is measured


def test_what_is_measured_on_the_cpu_is_not_the_gpus(bench, calls):
    measure = bench('measure')

    def step():
        torch.ones(1000, 256)

    assert measure.peak_memory(step) == 1000 * 256 * 4
    assert measure.peak_memory(step, torch.device('cuda')) == 64 and ('reset_peak_memory_stats', ) in calls
    assert 'H200' not in measure.environment(measure.CPU) and 'TF32' not in measure.environment(measure.CPU)
    measure.set_tf32(False)
    assert 'NVIDIA H200, TF32 off, ' in measure.environment(torch.device('cuda')) == measure.environment()
    measure.set_tf32(True)
    assert 'NVIDIA H200, TF32 on, ' in measure.environment()


def test_the_losses_are_measured_on_the_device_that_is_named(bench, monkeypatch):
    losses, device, seen = bench('losses'), torch.device('meta'), []
    loss_of = losses.AEKTLoss.forward
    # The rivals take the same tensors, and fail at those of two devices.
    monkeypatch.setattr(losses.AEKTLoss, 'forward', lambda loss, *tensors: (
        seen.extend(tensor.device for tensor in tensors), loss_of(loss, *tensors))[1])
    monkeypatch.setattr(losses, 'median_times', lambda steps, repeats, block: (
        seen.append(block), {name: step() or 1.0 for name, step in steps.items()})[1])
    monkeypatch.setattr(losses, 'peak_memory', lambda step, where: seen.append(where) or 2**20)
    assert losses.measure((8, 10), 1, device).startswith('| 8x10 | 1000.00 |')
    assert seen == [1, *3 * [device], *3 * [device]]


def test_losses_goes_where_the_gpu_is(bench, calls, monkeypatch, capsys):
    losses, seen = bench('losses'), []
    monkeypatch.setattr(losses, 'measure', lambda shape, repeats, device: seen.append(device.type) or '| a row |')
    losses.main(['--shapes', '8x10', '--threads', str(torch.get_num_threads())])
    assert seen == ['cuda'] and 'NVIDIA H200, TF32 off' in capsys.readouterr().out


def test_a_gpu_is_waited_for_around_blocks_only(bench, calls, monkeypatch):
    measure = bench('measure')
    monkeypatch.setattr(measure.time, 'perf_counter', lambda: float(len(calls)))
    steps = {name: lambda name=name: calls.append((name, )) for name in ('ours', 'theirs')}
    block = measure.block_of(torch.device('cuda'))
    times = measure.median_times(steps, repeats=2, warmup=1, block=block)
    wait, turn = [('synchronize', )], []
    for name in steps:
        turn += wait + block * [(name, )] + wait
    assert block > 1 and calls == 3 * turn
    assert times == dict.fromkeys(steps, (block + 1) / block)  # the clock counts the calls: the block and its wait
    assert measure.block_of(measure.CPU) == 1


@pytest.mark.parametrize('argv, allowed', [([], False), (['--tf32'], True)])
def test_fp32_is_fp32_unless_tf32_is_asked_for(bench, argv, allowed):
    measure, parser = bench('measure'), argparse.ArgumentParser()
    measure.add_arguments(parser)
    measure.set_tf32(not allowed)
    torch.backends.cudnn.benchmark = False
    measure.prepare(parser.parse_args(argv))
    assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == allowed
    assert torch.backends.cudnn.benchmark


# ---------------------------------------------------------------- what is compared


@pytest.mark.parametrize('bare', ['bare_atsc_step', 'bare_aekt_step', 'student_step', 'engine_step'])
def test_ours_and_the_floor_have_the_layout_of_our_configs(bench, bare):
    steps = bench('steps')
    model = (steps.atsc_model if 'atsc' in bare else steps.aekt_model)('resnet8', ['resnet14'])
    getattr(steps, bare)(model, steps.Batch(4, torch.device('cpu')))()
    assert model.student.backbone.conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_dkd_has_the_layout_of_mmrazor(bench, monkeypatch):
    steps = bench('steps')
    model = steps.dkd_model('resnet8', 'resnet14')
    monkeypatch.setattr(steps, 'dkd_model', lambda *names: model)
    loss = steps.dkd_step('resnet8', 'resnet14', steps.Batch(4, torch.device('cpu')))()['loss']
    assert torch.isfinite(loss) and model.architecture.backbone.conv1.weight.is_contiguous()


def test_a_batch_is_moved_in_one_piece(bench):
    """Ours as our data set gives it, MMRazor's as MMPretrain's: the same pictures, normalised as the bare loop's."""
    steps = bench('steps')
    batch = steps.Batch(4, torch.device('cpu'))
    ours, theirs = steps.aekt_model('resnet8', ['resnet8']), steps.dkd_model('resnet8', 'resnet8')
    for model, data in ((ours, batch.batched), (theirs, batch.classic)):
        made = model.data_preprocessor(data, True)
        torch.testing.assert_close(made['inputs'], batch.images)
        assert [int(sample.gt_label) for sample in made['data_samples']] == batch.labels.tolist()
    assert made['data_samples'][0].gt_label.data_ptr() != made['data_samples'][1].gt_label.data_ptr()
    samples = ours.data_preprocessor(batch.batched, True)['data_samples']
    assert len({sample.gt_label._base.data_ptr() for sample in samples}) == 1


def test_a_training_is_switched_by_its_config(bench, monkeypatch):
    runs, train, seen = bench('runs'), bench('train'), []
    monkeypatch.setattr(runs.cli, 'make_fast', lambda config: seen.append('fast'))
    begin = AccelerateHook.before_run
    monkeypatch.setattr(AccelerateHook, 'before_run', lambda hook, runner: (
        seen.append((hook.channels_last, type(runner.train_dataloader.dataset).__name__)), begin(hook, runner)))
    args = argparse.Namespace(**SMALL, images=6, warmup=2)
    assert train.runner_rate(args, fast=True) > 0
    assert train.runner_rate(args, classic=True) > 0
    assert seen == ['fast', ('auto', 'RandomBatchedCIFAR100'), (False, 'RandomCIFAR100')]


def test_a_stopwatch_times_the_iterations_that_count(bench, monkeypatch):
    runs = bench('runs')
    clock = iter([10.0, 13.0])
    monkeypatch.setattr(runs.time, 'perf_counter', lambda: next(clock))
    watch = runs.Stopwatch(warmup=2, steps=3)
    for iteration in range(7):
        assert hasattr(watch, 'start') == (iteration > 1) and hasattr(watch, 'seconds') == (iteration > 4)
        watch.after_train_iter(SimpleNamespace(hooks=[]), iteration)
    watch.after_train_epoch(SimpleNamespace(hooks=[]))
    assert watch.seconds == 3.0


def test_losses_of_trainings_are_compared_step_by_step(bench, monkeypatch, capsys):
    curves = bench('curves')
    lists = dict(eager=[2.0, 4.0], graph=[2.0, 4.0], fast=[2.2, 3.0])
    monkeypatch.setattr(curves, 'losses_of', lambda method, mode, args: SimpleNamespace(
        values=[torch.tensor(value) for value in lists[mode]], has_graph=mode == 'graph'))
    curves.main(['--methods', 'aekt', '--modes', 'graph', 'fast'])
    printed = capsys.readouterr().out
    assert '| aekt | graph | yes | 2 | 4 | 0.0e+00 |\n| aekt | fast | no | 2.2 | 3 | 2.5e-01 |' in printed


def test_two_trainings_from_one_seed_have_the_same_losses(bench):
    curves = bench('curves')
    args = argparse.Namespace(**SMALL, steps=3)
    try:
        first, second = (curves.losses_of('aekt', mode, args) for mode in ('eager', 'graph'))
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False
    assert len(first.values) == 3 and torch.equal(torch.stack(first.values), torch.stack(second.values))
    assert len(set(map(float, first.values))) == 3 and not second.has_graph


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


def test_the_recorder_takes_whole_steps_and_the_places_of_their_waits(bench, calls):
    profile_step = bench('profile_step')
    recorder = profile_step.StepRecorder(warmup=2, steps=3, sync='warn')
    for iteration in range(7):
        with torch.profiler.record_function(f'iteration {iteration}'):
            torch.ones(2)
        warnings.warn('called a synchronizing CUDA operation') if iteration in (3, 4) else None
        recorder.after_train_iter(SimpleNamespace(), iteration)
    names = [entry['name'] for entry in recorder.events if entry.get('cat') == 'user_annotation']
    assert sorted(name for name in names if name.startswith('iteration')) == [f'iteration {i}' for i in (2, 3, 4)]
    (place, count), = recorder.places.items()
    assert count == 2 and place.startswith(f'{__file__}:')
    modes = [call for call in calls if call[0] == 'set_sync_debug_mode']
    assert modes == [('set_sync_debug_mode', 'warn'), ('set_sync_debug_mode', 'default')]
    assert calls[0] == ('synchronize', )  # or the steps before would still be running


@pytest.mark.parametrize('method', ['atsc', 'aekt'])
def test_a_training_s_steps_are_timed_and_recorded(bench, monkeypatch, method):
    """By the runner with the config's hooks, here on the CPU: nothing of them happens on a GPU."""
    profile_step, recorders, train = bench('profile_step'), [], bench('runs').train
    for name in ('synchronize', 'set_sync_debug_mode'):
        monkeypatch.setattr(torch.cuda, name, lambda *args: None)

    def train_recorded(config, watch, *none):
        recorders.append(profile_step.StepRecorder(warmup=4, steps=2, sync='warn'))
        return train(config, watch, recorders[0])

    monkeypatch.setattr(profile_step, 'train', train_recorded)
    args = argparse.Namespace(batch=2, warmup=2, steps=2, record=2, sync='warn', fast=False)
    measured = profile_step.measure(method, SMALL['pair'], args)
    assert measured.seconds > 0 and not measured.has_graph
    names = Counter(entry['name'] for entry in recorders[0].events if entry.get('cat') == 'user_annotation')
    assert names['Optimizer.step#SGD.step'] == 2
    assert profile_step.count_events(recorders[0].events) == (0, Counter(), Counter(), Counter(), 1.0, 0.0)


def test_the_profile_of_a_step_is_printed(bench, calls, monkeypatch, capsys):
    profile_step, seen = bench('profile_step'), []
    events = [event('user_annotation', profile_step.MARK, 0, 10), event('kernel', 'gemm', 0, 10),
              event('cuda_runtime', 'cudaStreamSynchronize', 1, 1)]
    monkeypatch.setattr(profile_step, 'measure', lambda method, pair, args: seen.append((method, args.fast)) or (
        profile_step.Measured(0.02, True, profile_step.count_events(events), Counter({'hook.py:7': 1}))))
    profile_step.main(['--record', '1', '--fast', '--pairs', 'resnet14_resnet8'])
    printed = capsys.readouterr().out
    assert 'NVIDIA H200, TF32 off' in printed and 'fast, one of 300 steps' in printed
    row = 'resnet14_resnet8 | 20 | 3,200 | yes | 1 | 0 | 0 | 1 | 0% | 100% |'
    assert f'| atsc | {row}\n| aekt | {row}' in printed
    prefix = 'atsc resnet14_resnet8: 1 a step'
    assert f'{prefix}: cudaStreamSynchronize\n{prefix}: hook.py:7' in printed
    assert seen == [('atsc', True), ('aekt', True)]


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
    parts[1] = parts[1]._replace(seconds=3)
    getattr(gpu.module, run)(parts, gpu.start, gpu.report, time.monotonic() + 60)
    said = [re.sub(r', \d+ s', '', line) for line in sorted(gpu.report.lines)]
    assert said == ['part 0: FAILED, exit code 3', 'part 1: FAILED, out of time', 'part 2: ok']
    printed = capsys.readouterr().out
    assert 'FAILED tests/a.py::b' in printed and 'asleep' in printed


@pytest.mark.parametrize('run', ['run_together', 'run_alone'])
def test_the_rest_is_skipped_at_the_deadline(gpu, monkeypatch, run):
    monkeypatch.setattr(gpu.module.os, 'cpu_count', lambda: 2)
    getattr(gpu.module, run)(gpu.parts(SLEEP, SLEEP, SLEEP, SLEEP), gpu.start, gpu.report, time.monotonic() + 6)
    assert len(gpu.report.lines) == 4 and any(line.endswith('SKIPPED') for line in gpu.report.lines)
    assert not any(line.endswith('ok') for line in gpu.report.lines)


def test_the_summary_compares_with_what_was_promised(gpu):
    notes = [dict(name='step', method='atsc', pair='resnet32x4_resnet8x4', ours=0.03, authors=0.06),
             dict(name='runner', method='atsc', pair='resnet32x4_resnet8x4', fast=True, seconds=0.006, graph=True,
                  images=10666.7, idle=0.2),
             dict(name='curve', method='atsc', mode='graph', distance=3e-6, graph=True)]
    lines = gpu.module.summary(notes, rehearse=False)
    assert ('| resnet32x4_resnet8x4 | atsc, authors | 60.00 | 30.00 | 6.00 | 2.00 ok(1) | 10.00 ok(8) | 10,667 | yes '
            '| 20% NO(10%) |') in lines
    assert '| resnet110_resnet32 | aekt, dkd | - | - | - | - ?(1) | - ?(2) | - | - | - |' in lines
    assert lines[-1] == 'losses, atsc, graph to eager: 3.0e-06, graph yes'


@pytest.mark.slow
def test_the_whole_command_is_rehearsed(tmp_path):
    done = run_tool('benchmark/gpu.py', tmp_path / 'out', '--rehearse', timeout=1200)
    assert done.returncode == 0, done.stderr
    assert 'FAILED' not in done.stdout and 'SKIPPED' not in done.stdout, done.stdout
    assert re.search(r'wrn_40_1 \| aekt, dkd \| [\d.]+ \| [\d.]+ \| [\d.]+ \|', done.stdout)
