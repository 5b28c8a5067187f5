"""On a GPU: trainings with the step as a CUDA graph are the eager ones. MMKD_TEST_DEVICE=cuda pytest tests/gpu"""
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from runner import make_fast

from mmkd_atsc.export import export_student
from mmkd_atsc.models.data_preprocessors import BatchedDataPreprocessor
from tests.conftest import needs_gpu
from tests.test_runtime.test_step_graph import METHODS, config_of, log_of, train
from tests.tiny_cifar import TinyCIFAR100

pytestmark = [needs_gpu, pytest.mark.usefixtures('in_process', 'deterministic')]
CLOSE = dict(rtol=1e-5, atol=1e-6)


@pytest.fixture
def deterministic(monkeypatch):
    """Every kernel gives the same twice, as far as there is one that does, and fp32 is fp32."""
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = True, False, False, False
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before


def on_gpu(method, work_dir, graph=True, **options):
    """A training of 20 steps in fp32, four epochs of four batches of 16 images and one of six."""
    config = config_of(method, work_dir, graph=graph, **options)
    config.optim_wrapper.bf16 = False
    if graph:
        config.default_hooks.step_graph.type = 'mmkd_atsc.StepGraphHook'
    return config


def assert_close(runner, other):
    expected, got = runner.model.state_dict(), other.model.state_dict()
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert value.is_cuda
        torch.testing.assert_close(got[name], value, **CLOSE, msg=lambda text, name=name: f'{name}: {text}')


def assert_same_losses(expected, got):
    assert len(got.losses) == len(expected.losses)
    for step, (usual, graphed) in enumerate(zip(expected.losses, got.losses)):
        assert graphed == pytest.approx(usual, rel=1e-5, abs=1e-6), f'step {step}'


@pytest.mark.parametrize('method', METHODS)
def test_weights_and_losses_are_the_eager_ones(method, tmp_path):
    """Through a warm-up, a window that begins and ends, and last batches of another size."""
    usual, expected = train(on_gpu(method, tmp_path / 'eager', graph=False))
    graphed, got = train(on_gpu(method, tmp_path / 'graph'))
    assert_same_losses(expected, got)
    assert_close(usual, graphed)
    captured = [sum(got.captured[5 * epoch:5 * epoch + 5]) for epoch in range(4)]
    # Two usual steps and the last, smaller batch in the first epoch; and again wherever something changes.
    changes = dict(dkd=(2, 2, 2, 4), aekt=(2, 2, 2, 4), atsc=(2, 2, 4, 2), atsc_two=(2, 2, 4, 2))
    assert tuple(captured) == changes.get(method, (2, 4, 4, 4)), log_of(tmp_path / 'graph')[-1500:]


@pytest.mark.parametrize('method', ['atsc', 'aekt'])
def test_a_resumed_run_equals_an_unbroken_one(method, tmp_path):
    whole, _ = train(on_gpu(method, tmp_path / 'whole'))
    resumed, got = train(on_gpu(method, tmp_path / 'resumed', resume=True,
                                load_from=str(tmp_path / 'whole' / 'epoch_2.pth')))
    assert len(got.losses) == 10 and any(got.captured)
    assert_close(whole, resumed)


@HOOKS.register_module(force=True)
class SpoilTheEighth(Hook):
    """Spoils weights in place between two replays."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 7:
            runner.model.head.fc.weight.data.fill_(float('nan'))


def test_a_nan_under_the_graph_stops_the_run(tmp_path):
    with pytest.raises(Exception, match='loss is nan in iteration 8'):
        train(on_gpu('plain', tmp_path, hooks=[dict(type='SpoilTheEighth')]))
    assert 'the step is captured' in log_of(tmp_path)


def test_averaged_weights_are_the_eager_ones(tmp_path):
    hooks = [dict(type='EMAHook', momentum=0.1)]
    for graph in (False, True):
        train(on_gpu('atsc', tmp_path / str(graph), graph=graph, hooks=hooks))
    usual, graphed = (torch.load(tmp_path / str(graph) / 'epoch_4.pth', weights_only=True,
                                 map_location='cpu')['ema_state_dict'] for graph in (False, True))
    for name, value in usual.items():
        torch.testing.assert_close(graphed[name], value, **CLOSE, msg=lambda text, name=name: f'{name}: {text}')


@pytest.mark.parametrize('method', ['atsc', 'aekt'])
def test_all_that_fast_does_trains(method, tmp_path):
    """bf16, compiled blocks, the graph; the losses begin as in fp32, and the student leaves as ever."""
    _, expected = train(on_gpu(method, tmp_path / 'eager', graph=False))
    config = config_of(method, tmp_path / 'fast', graph=False)
    make_fast(config)
    config.default_hooks.step_graph.warmup = 2
    runner, got = train(config)
    log = log_of(tmp_path / 'fast')
    assert runner.optim_wrapper.autocasts and ' compiled' in log and 'not compiled' not in log, log[-3000:]
    assert sum(got.captured) >= 8, log[-3000:]
    assert got.losses[0]['loss'] == pytest.approx(expected.losses[0]['loss'], rel=0.05)
    assert all(torch.isfinite(torch.tensor(list(step.values()))).all() for step in got.losses)
    assert all(weight.dtype == torch.float32 for weight in runner.model.parameters())

    report = export_student(config, tmp_path / 'fast' / 'epoch_4.pth', tmp_path / 'out', image_size=32)
    assert report.differences['checkpoint'] <= 1e-6
    assert torch.load(tmp_path / 'out' / 'student.pth', weights_only=True)['state_dict']


def test_a_batch_on_the_gpu_is_that_of_the_cpu():
    """Fetched there from the data set's copy, and augmented alike by the same random numbers."""
    made = []
    for device in ('cpu', 'cuda'):
        preprocessor = BatchedDataPreprocessor(mean=[127.5] * 3, std=[64.0] * 3).to(device)
        for training in (False, True):
            torch.manual_seed(0)
            data = preprocessor(TinyCIFAR100().__getitems__(list(range(3, 40))), training=training)
            labels = [sample.gt_label for sample in data['data_samples']]
            assert data['inputs'].device.type == labels[0].device.type == device
            made.append((data['inputs'].cpu(), [int(label) for label in labels]))
    assert not torch.equal(made[0][0], made[1][0])
    for (expected, labels), (got, labels_there) in zip(made[:2], made[2:]):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
        assert labels == labels_there
