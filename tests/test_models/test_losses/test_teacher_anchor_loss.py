import copy
import pickle

import pytest
import torch
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
@pytest.mark.parametrize('weight', [1.0, 0.25])
def test_equals_the_formula(reduction, weight):
    encoder, loss, start = bound(loss_weight=weight, reduction=reduction)
    expected, value = by_autograd(encoder, start, weight, reduction), loss()
    assert value.dim() == 0
    assert_equal(value, expected)
    wanted, found = (torch.autograd.grad(3 * total, list(encoder.parameters()), allow_unused=True)
                     for total in (expected, value))
    for (name, _), one, other in zip(encoder.named_parameters(), wanted, found):
        assert (one is None) == (other is None) == (name not in ANCHORED)
        if one is not None:
            assert_equal(other, one)


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


def test_half_precision_parameters_accumulate_in_fp32(dtype=torch.float16):
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


def test_misuse_is_refused():
    loss = TeacherAnchorLoss()
    for call in (loss, loss.drift):
        with pytest.raises(RuntimeError, match='call bind'):
            call()
    with pytest.raises(ValueError, match='BatchNorm2d has no parameter of 2 dimensions'):
        loss.bind(nn.BatchNorm2d(3))
    loss.bind(nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match='bound already'):
        loss.bind(nn.Linear(2, 2))
