import copy
import pickle

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmkd_atsc.models import TeacherAnchorLoss


class Encoder(nn.Module):
    """A parameter of its own, two stages, norm layers and biases."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 3))
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.layer1 = nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


ANCHORED = ['token', 'conv1.weight', 'layer1.0.weight', 'layer1.2.weight']


def bound(encoder=None, **kwargs):
    """A float64 encoder that has moved since its anchors were taken, the loss, and the anchors by name."""
    torch.manual_seed(0)
    encoder = (encoder or Encoder()).double()
    loss = TeacherAnchorLoss(**kwargs)
    loss.bind(encoder)
    start = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter))
    return encoder, loss, start


def by_autograd(encoder, start, weight=1.0, reduction='sum'):
    terms = [(p - start[name]).square() for name, p in encoder.named_parameters() if p.dim() > 1]
    total = weight * sum(term.sum() for term in terms)
    return total / sum(term.numel() for term in terms) if reduction == 'mean' else total


def assert_equal(left, right):
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('reduction', ['sum', 'mean'])
@pytest.mark.parametrize('weight', [1.0, 10, 0.25])
def test_equals_the_formula(reduction, weight):
    encoder, loss, start = bound(loss_weight=weight, reduction=reduction)
    expected = by_autograd(encoder, start, weight, reduction)
    expected.backward()
    wanted = {name: p.grad for name, p in encoder.named_parameters()}
    encoder.zero_grad(set_to_none=True)
    value = loss()
    (3 * value).backward()
    assert value.dim() == 0
    assert_equal(value, expected)
    for name, parameter in encoder.named_parameters():
        if name in ANCHORED:
            assert_equal(parameter.grad, 3 * wanted[name])
        else:
            assert parameter.grad is None and wanted[name] is None


def test_zero_at_the_start_with_a_finite_gradient():
    encoder, loss = Encoder(), TeacherAnchorLoss()
    loss.bind(encoder)
    loss().backward()
    assert loss().item() == 0
    assert torch.equal(encoder.conv1.weight.grad, torch.zeros_like(encoder.conv1.weight))


def test_adds_to_other_gradients_and_accumulates():
    encoder, loss, start = bound()
    task = encoder.conv1.weight.sin().sum()
    expected = torch.autograd.grad(task + by_autograd(encoder, start), encoder.conv1.weight, retain_graph=True)[0]
    (task + loss()).backward()
    assert_equal(encoder.conv1.weight.grad, expected)
    loss().backward()
    extra = torch.autograd.grad(by_autograd(encoder, start), encoder.conv1.weight)[0]
    assert_equal(encoder.conv1.weight.grad, expected + extra)


def test_training_moves_the_encoder_towards_anchors_that_stay():
    encoder, loss, start = bound()
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.25)
    first = loss().item()
    for _ in range(3):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    # A step of 0.25 on 2(theta - theta*) halves the distance.
    assert_equal(loss(), torch.tensor(first / 4 ** 3, dtype=torch.float64))
    encoder.load_state_dict({**encoder.state_dict(), **start})
    assert loss().item() == 0


class CountOps(TorchDispatchMode):

    def __init__(self):
        super().__init__()
        self.ops = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.ops.append(func.name())
        return func(*args, **(kwargs or {}))


def test_number_of_ops_does_not_grow_with_the_tensors():
    counts = {}
    for tensors in (2, 200):
        encoder, loss, _ = bound(nn.ModuleDict({'stage': nn.Sequential(*(nn.Linear(2, 2) for _ in range(tensors)))}))
        with CountOps() as value:
            total = loss()
        with CountOps() as gradient:
            torch.autograd.grad(total, [p for p in encoder.parameters() if p.dim() > 1])
        with CountOps() as drift:
            loss.drift()
        views = ('aten::detach', 'aten::alias')
        counts[tensors] = [[op for op in mode.ops if op not in views] for mode in (value, gradient, drift)]
    assert counts[2] == counts[200]
    assert all(counts[2])
    assert sum(len(ops) for ops in counts[2][:2]) < 16


def test_keeps_one_node_and_no_copy_of_the_encoder():
    encoder, loss, _ = bound()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        value = loss()
    storages = {p.untyped_storage().data_ptr() for p in encoder.parameters()}
    assert [t for t in saved if t.untyped_storage().data_ptr() not in storages and t.dim()] == []
    assert len(saved) == len(ANCHORED)
    assert all(edge.name() == 'torch::autograd::AccumulateGrad'
               for edge, _ in value.grad_fn.next_functions if edge is not None)


def test_second_derivative_is_refused():
    encoder, loss, _ = bound()
    with pytest.raises(RuntimeError, match='cannot be differentiated twice'):
        torch.autograd.grad(loss(), encoder.conv1.weight, create_graph=True)


def test_weight_zero_is_exactly_zero_and_does_nothing():
    encoder, loss, _ = bound(loss_weight=0)
    encoder.conv1.weight.data.fill_(float('nan'))
    with CountOps() as mode:
        value = loss()
    assert value.item() == 0 and not value.requires_grad
    assert not [op for op in mode.ops if 'foreach' in op]


def test_frozen_parameters_count_and_get_no_gradient():
    encoder, loss, start = bound()
    encoder.conv1.requires_grad_(False)
    value = loss()
    value.backward()
    assert_equal(value, by_autograd(encoder, start))
    assert encoder.conv1.weight.grad is None
    assert_equal(encoder.token.grad, 2 * (encoder.token - start['token']).detach())
    encoder.requires_grad_(False)
    assert not loss().requires_grad


def _bound_to(encoder):
    loss = TeacherAnchorLoss()
    loss.bind(encoder)
    return loss


def test_nothing_registered():
    _, loss, _ = bound()
    assert not list(loss.parameters()) and not list(loss.buffers()) and not list(loss.children())
    assert loss.state_dict() == {}


def test_deepcopy_of_the_whole_is_anchored_to_the_copied_encoder():
    encoder, loss, _ = bound()
    # The loss first: the encoder is then met through it before it is met as a child.
    whole = nn.ModuleDict({'loss': loss, 'teacher': encoder})
    for twin in (copy.deepcopy(whole), pickle.loads(pickle.dumps(whole))):
        assert torch.equal(twin['loss'](), loss())
        twin['teacher'].conv1.weight.data.add_(1)
        assert twin['loss']() != loss()
        twin['loss']().backward()
        assert twin['teacher'].conv1.weight.grad is not None and encoder.conv1.weight.grad is None
        before = loss().item()
        twin['loss']._anchors[0].add_(1)
        assert loss().item() == before


def test_moves_with_the_module():
    encoder, loss, start = bound()
    whole = nn.ModuleDict({'teacher': encoder, 'loss': loss})
    whole.float()
    assert loss().dtype == torch.float32
    torch.testing.assert_close(loss().double(), by_autograd(encoder.double(), start), rtol=1e-5, atol=0)
    with pytest.raises(RuntimeError, match='token is torch.float64 on cpu, its anchor torch.float32 on cpu: move'):
        loss()
    whole.double()
    assert loss().dtype == torch.float64
    meta = whole.to('meta')
    assert meta['loss']().device.type == 'meta'


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_parameters_accumulate_in_fp32(dtype):
    encoder = nn.Linear(100, 100).to(dtype)
    loss = TeacherAnchorLoss()
    loss.bind(encoder)
    start = encoder.weight.detach().clone()
    encoder.weight.data.add_(4)
    value = loss()
    assert value.dtype == torch.float32
    exact = (encoder.weight - start).detach().double().square().sum()
    assert exact > 65504  # beyond fp16
    torch.testing.assert_close(value.detach().double(), exact, rtol=1e-5, atol=0)
    value.backward()
    assert encoder.weight.grad.dtype == dtype
    torch.testing.assert_close(encoder.weight.grad, 2 * (encoder.weight - start).detach())


def test_mixed_dtypes_give_the_better_one():
    encoder = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())
    loss = _bound_to(encoder)
    encoder[1].weight.data.add_(1)
    assert loss().dtype == torch.float64 and loss().item() == pytest.approx(4)
    loss().backward()
    assert [layer.weight.grad.dtype for layer in encoder] == [torch.float32, torch.float64]


def test_drift_is_relative_and_by_stage():
    encoder, loss, start = bound()
    drift = loss.drift()
    assert list(drift) == ['total', 'token', 'conv1', 'layer1']
    assert all(d.dim() == 0 and not d.requires_grad for d in drift.values())
    parameters = dict(encoder.named_parameters())

    def ratio(names):
        moved, norm = (sum(t.square().sum() for t in tensors).sqrt() for tensors in (
            [parameters[n] - start[n] for n in names], [start[n] for n in names]))
        return (moved / norm).detach()

    assert_equal(drift['total'], ratio(ANCHORED))
    assert_equal(drift['conv1'], ratio(ANCHORED[1:2]))
    assert_equal(drift['layer1'], ratio(ANCHORED[2:]))


def test_drift_is_finite_for_a_stage_that_starts_at_zero():
    encoder = nn.Sequential(nn.Linear(2, 2))
    nn.init.zeros_(encoder[0].weight)
    loss = _bound_to(encoder)
    assert loss.drift()['0'].item() == 0
    encoder[0].weight.data.fill_(1)
    assert loss.drift()['0'].isfinite()


def test_min_dims():
    encoder, loss = nn.Linear(2, 2), TeacherAnchorLoss()
    loss.bind(encoder, min_dims=1)
    encoder.bias.data.add_(1)
    assert loss().item() == pytest.approx(2)


def test_shared_parameters_count_once():
    encoder = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    encoder[1].weight = encoder[0].weight
    loss = _bound_to(encoder)
    encoder[0].weight.data.add_(1)
    assert loss().item() == pytest.approx(4)


def test_misuse_is_refused():
    loss = TeacherAnchorLoss()
    for call in (loss, loss.drift):
        with pytest.raises(RuntimeError, match='call bind'):
            call()
    with pytest.raises(TypeError, match='not a generator'):
        loss.bind(nn.Linear(2, 2).parameters())
    with pytest.raises(ValueError, match='BatchNorm2d has no parameter of 2 dimensions'):
        loss.bind(nn.BatchNorm2d(3))
    loss.bind(nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match='bound already'):
        loss.bind(nn.Linear(2, 2))


@pytest.mark.parametrize('kwargs, error, words', [
    (dict(loss_weight=-1), ValueError, 'loss_weight=-1'),
    (dict(loss_weight=True), TypeError, 'loss_weight=True'),
    (dict(reduction='men'), ValueError, "did you mean 'mean'"),
])
def test_bad_arguments(kwargs, error, words):
    with pytest.raises(error, match=words):
        TeacherAnchorLoss(**kwargs)


def test_registered():
    assert MODELS.build(dict(type='mmkd_atsc.TeacherAnchorLoss', reduction='mean')).reduction == 'mean'
