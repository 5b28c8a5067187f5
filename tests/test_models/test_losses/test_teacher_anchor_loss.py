import copy
import pickle

import pytest
import torch
from torch import nn

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


@pytest.mark.parametrize('reduction', ['sum', 'mean'])
def test_equals_the_formula(reduction):
    encoder, loss, start = bound(loss_weight=0.25, reduction=reduction)
    terms = [(p - start[name]).square() for name, p in encoder.named_parameters() if name in ANCHORED]
    expected, value = 0.25 * sum(term.sum() for term in terms), loss()
    if reduction == 'mean':
        expected = expected / sum(term.numel() for term in terms)
    torch.testing.assert_close(value, expected)
    wanted, found = (torch.autograd.grad(3 * total, list(encoder.parameters()), allow_unused=True)
                     for total in (expected, value))
    for (name, _), one, other in zip(encoder.named_parameters(), wanted, found):
        assert (one is None) == (other is None) == (name not in ANCHORED)
        torch.testing.assert_close(other, one)


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

    torch.testing.assert_close([drift[name] for name in ('total', 'conv1', 'layer1')],
                               [ratio(ANCHORED), ratio(ANCHORED[1:2]), ratio(ANCHORED[2:])])


def test_misuse_is_refused():
    loss = TeacherAnchorLoss()
    with pytest.raises(RuntimeError, match='call bind'):
        loss()
    with pytest.raises(ValueError, match='BatchNorm2d has no parameter of 2 dimensions'):
        loss.bind(nn.BatchNorm2d(3))
