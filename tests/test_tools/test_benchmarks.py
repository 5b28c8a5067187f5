"""The benchmarks run and print their ratios; how fast they are is nobody's test. What they do on a GPU is simulated."""
import argparse
import functools
import importlib
import re
import warnings
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim.optimizer import amp_optimizer_wrapper

from mmkd_atsc.runtime import accelerate
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


@pytest.fixture
def amp_on_cpu(monkeypatch):
    """MMEngine's mixed precision, which it has on GPUs only, on the CPU."""
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', functools.partial(torch.amp.GradScaler, 'cpu'))


@pytest.mark.parametrize('tool, args, rows', [
    ('atsc_step.py', ['--pairs', 'resnet14_resnet8', '--batch', 2, '--repeats', 1], 1),
    ('aekt_step.py', ['--pairs', 'resnet14_resnet8', '--batch', 2, '--repeats', 1], 1),
    ('multi_teacher.py', ['--student', 'resnet8', '--teachers', 'resnet8', 'resnet8', '--batch', 2, '--repeats', 1], 4),
    ('train.py', ['--pair', 'wrn_40_2_wrn_40_1', '--batch', 2, '--images', 6], 3),
    ('losses.py', ['--shapes', '8x10', '--threads', 1], 1),
])
def test_a_table_of_ratios_is_printed(tool, args, rows):
    done = run_tool(f'benchmark/{tool}', *args)
    assert done.returncode == 0, done.stderr
    assert re.search(r'torch \d', done.stdout)
    assert len(re.findall(r'^\|.*\|\s*\d+\.\d\d \|$', done.stdout, re.M)) == rows, done.stdout
    for rate, minutes in re.findall(r'^\| [^|]+ \| ([\d.]+) \| ([\d.]+) \| [\d.]+ \|$', done.stdout, re.M):
        # 240 epochs of 50,000 images; both numbers are rounded.
        assert float(minutes) * float(rate) * 60 == pytest.approx(12e6, rel=0.06 / float(rate) + 0.001)


def test_what_is_not_known_is_refused():
    assert_one_line_error(run_tool('benchmark/atsc_step.py', '--pairs', 'resnet9_resnet8'), 'resnet9_resnet8')
    assert_one_line_error(run_tool('benchmark/multi_teacher.py', '--teachers', 'resnet9'), "network='resnet9'")


@pytest.mark.parametrize('name, argv, words', [
    *((name, ['--amp'], '--amp needs a GPU: MMEngine has') for name in ('atsc_step', 'aekt_step', 'train')),
    *((name, ['--cuda-graphs'], '--cuda-graphs needs a GPU') for name in ('atsc_step', 'aekt_step', 'train')),
    ('profile_step', [], 'profile_step.py needs a GPU'),
    ('profile_step', ['--sync', 'off'], "--sync='off' is not one of 'warn', 'error'"),
    ('profile_step', ['--methods', 'kd'], "--methods='kd' is not one of 'atsc', 'aekt'"),
    ('profile_step', ['--warmup', '99'], '--warmup=99 must be an integer at least 2 and at most 60'),
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
    switches, parser = bench('switches'), argparse.ArgumentParser()
    switches.add_arguments(parser)
    switches.set_tf32(not allowed)
    torch.backends.cudnn.benchmark = False
    switches.prepare(parser.parse_args(argv))
    assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == allowed
    assert torch.backends.cudnn.benchmark


# ---------------------------------------------------------------- the fast switches


@pytest.mark.parametrize('argv, expected', [
    ([], (False, 'auto', False, 'fp32')),
    (['--contiguous', '--compile'], (False, False, True, 'fp32, contiguous, compiled')),
    (['--amp', '--cuda-graphs'], (True, 'auto', dict(mode='reduce-overhead'), 'bf16, compiled with CUDA graphs')),
])
def test_switches_are_read(bench, calls, argv, expected):
    module, parser = bench('switches'), argparse.ArgumentParser()
    module.add_switches(parser)
    switches = module.read_switches(parser.parse_args(argv))
    assert (*switches, str(switches)) == expected
    assert switches.has_cuda_graphs == ('--cuda-graphs' in argv)
    hook = switches.hook()
    assert (hook.channels_last, hook.compile) == (switches.channels_last, switches.compile is not False)
    assert hook.options == (switches.compile if isinstance(switches.compile, dict) else {})
    assert not switches.layout_hook().compile


def losses_of(step, count=3):
    return [float(step()['loss'].detach()) for _ in range(count)]


@pytest.mark.parametrize('method', ['atsc', 'aekt'])
def test_a_step_is_compiled_as_a_training_compiles_it(bench, monkeypatch, method):
    """The losses too, by the hook, which is told of each step."""
    steps, switches = bench('steps'), bench('switches')
    compiled, begun = [], []
    guarded = accelerate.compile_guarded
    monkeypatch.setattr(accelerate, 'compile_guarded', lambda part, name, **options: (
        compiled.append((part, name, options)), guarded(part, name, **options)))
    monkeypatch.setattr(torch.compiler, 'cudagraph_mark_step_begin', lambda: begun.append(1))
    batch = steps.Batch(4, torch.device('cpu'))
    torch.manual_seed(0)
    model = dict(atsc=steps.atsc_model, aekt=steps.aekt_model)[method]('resnet8', ['resnet14'])
    plain = losses_of(steps.engine_step(model, batch, switches.Switches(channels_last=False)))
    assert not compiled and not begun
    torch.manual_seed(0)
    model = dict(atsc=steps.atsc_model, aekt=steps.aekt_model)[method]('resnet8', ['resnet14'])
    fast = losses_of(steps.engine_step(model, batch, switches.Switches(compile=dict(backend='eager'))))
    assert fast == pytest.approx(plain, rel=1e-3)
    parts = [part for part, _, _ in compiled]
    assert parts[:2] == [model.student.backbone, model.teacher.backbone]
    assert parts[2:] == list(model.distiller.distill_losses.values()) != []
    assert all(options == dict(backend='eager') and part._compiled_call_impl for part, _, options in compiled)
    assert len(begun) == 3
    assert model.teacher.backbone.conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_bf16_needs_no_scaler(bench, amp_on_cpu):
    steps, switches = bench('steps'), bench('switches').Switches(amp=True)
    batch = steps.Batch(4, torch.device('cpu'))
    torch.manual_seed(0)
    plain = losses_of(steps.engine_step(steps.aekt_model('resnet8', ['resnet14']), batch), 1)
    torch.manual_seed(0)
    model = steps.aekt_model('resnet8', ['resnet14'])
    dtypes = set()
    model.student.backbone.register_forward_hook(lambda module, inputs, output: dtypes.add(output[-1].dtype))
    mixed = losses_of(steps.engine_step(model, batch, switches), 1)
    assert dtypes == {torch.bfloat16}
    assert mixed == pytest.approx(plain, rel=0.05) and mixed != plain
    wrapper = steps.stand_in(model, batch, switches, switches.hook()).optim_wrapper
    assert wrapper.cast_dtype == torch.bfloat16 and not wrapper.loss_scaler.is_enabled()


@pytest.mark.parametrize('bare', ['bare_atsc_step', 'bare_aekt_step', 'student_step'])
def test_the_floor_has_our_layout_and_precision(bench, amp_on_cpu, bare):
    steps, module = bench('steps'), bench('switches')
    for switches, dtype in ((module.Switches(), torch.float32), (module.Switches(True, False), torch.bfloat16)):
        build = steps.atsc_model if 'atsc' in bare else steps.aekt_model
        model, seen = build('resnet8', ['resnet14']), []
        model.student.backbone.register_forward_hook(lambda m, inputs, output, seen=seen: seen.append(output[-1].dtype))
        getattr(steps, bare)(model, steps.Batch(4, torch.device('cpu')), switches)()
        assert seen == [dtype]
        weight = model.student.backbone.conv1.weight
        assert weight.is_contiguous() == (switches.channels_last is False)


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
    assert {sample.gt_label._base.data_ptr() for sample in samples} == {batch.batched['labels'].data_ptr()}


def test_a_training_is_switched_by_its_config(bench, amp_on_cpu, monkeypatch):
    train, switches = bench('train'), bench('switches').Switches(amp=True, compile=dict(backend='eager'))
    seen, begin = [], accelerate.AccelerateHook.before_run
    monkeypatch.setattr(accelerate.AccelerateHook, 'before_run', lambda hook, runner: (
        seen.append((hook, runner.optim_wrapper, type(runner.train_dataloader.dataset).__name__)), begin(hook, runner)))
    args = argparse.Namespace(**SMALL, images=6, warmup=2)
    assert train.runner_rate(args, switches) > 0
    assert train.runner_rate(args, bench('switches').Switches(channels_last=False), classic=True) > 0
    (hook, wrapper, dataset), (plain_hook, plain_wrapper, plain_dataset) = seen
    assert hook.compile and hook.options == dict(backend='eager') and hook.channels_last == 'auto'
    assert wrapper.cast_dtype == torch.bfloat16 and not wrapper.loss_scaler.is_enabled()
    assert not plain_hook.compile and plain_hook.channels_last is False
    assert type(plain_wrapper).__name__ == 'OptimWrapper'
    assert (dataset, plain_dataset) == ('RandomBatchedCIFAR100', 'RandomCIFAR100')


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
    assert profile_step.row('atsc', counts, 2) == '| atsc | 1.5 | 1.5 | 0.5 | 2 | 53% |'
    lines = profile_step.details('atsc', counts, Counter({'hook.py:7': 2}), 2)
    assert lines[0] == 'atsc: 1 a step: Memcpy HtoD (Pinned -> Device)'
    assert lines[-1] == 'atsc: 1 a step: hook.py:7' and len(lines) == 7


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
def test_a_training_s_steps_are_recorded(bench, monkeypatch, method):
    """By the runner with the config's hooks, here on the CPU: nothing of them happens on a GPU."""
    profile_step = bench('profile_step')
    for name in ('synchronize', 'set_sync_debug_mode'):
        monkeypatch.setattr(torch.cuda, name, lambda *args: None)
    args = argparse.Namespace(**SMALL, warmup=2, steps=2, sync='warn')
    recorder = profile_step.record(method, args, profile_step.Switches())
    names = Counter(entry['name'] for entry in recorder.events if entry.get('cat') == 'user_annotation')
    assert names['Optimizer.step#SGD.step'] == 2
    counts = profile_step.count_events(recorder.events)
    assert counts == (0, Counter(), Counter(), Counter(), 1.0)


def test_the_profile_of_a_step_is_printed(bench, calls, monkeypatch, capsys):
    profile_step, seen = bench('profile_step'), []
    events = [event('user_annotation', profile_step.MARK, 0, 10), event('kernel', 'gemm', 0, 10),
              event('cuda_runtime', 'cudaStreamSynchronize', 1, 1)]
    monkeypatch.setattr(profile_step, 'record', lambda method, args, switches: seen.append((method, switches)) or (
        SimpleNamespace(events=events, places=Counter({'hook.py:7': 1}))))
    profile_step.main(['--steps', '1', '--amp', '--cuda-graphs'])
    printed = capsys.readouterr().out
    assert 'NVIDIA H200, TF32 off' in printed and 'bf16, compiled with CUDA graphs, one of 1 steps' in printed
    assert '| atsc | 1 | 0 | 0 | 1 | 0% |\n| aekt | 1 | 0 | 0 | 1 | 0% |' in printed
    assert 'atsc: 1 a step: cudaStreamSynchronize\natsc: 1 a step: hook.py:7' in printed
    assert [method for method, switches in seen if switches.amp and switches.has_cuda_graphs] == ['atsc', 'aekt']
