"""The bound on the pull on a sample's logits: its gradient, and where it does nothing."""
import pytest
import torch

from mmkd_atsc.models.losses import AEKTLoss
from tests.test_models.test_losses.aekt_cases import logits


@pytest.mark.parametrize('soft', [False, True])
@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_aekt_pulls_no_sample_harder_than_its_bound(reduction, soft):
    student, teacher, labels = logits(20, 10)
    labels = torch.rand(20, 10, dtype=torch.float64) if soft else labels
    upstream = torch.linspace(-1, 2, 20).double() if reduction == 'none' else torch.tensor(1.0).double()
    unbounded, loss = AEKTLoss(max_pull=None, reduction=reduction), AEKTLoss(max_pull=8.0, reduction=reduction)
    expected, value = (one(student, teacher, labels) for one in (unbounded, loss))
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=0)
    free, bounded = (torch.autograd.grad((one * upstream).sum(), student)[0] for one in (expected, value))
    scale = upstream.abs().unsqueeze(-1) / (20 if reduction == 'mean' else 1)
    lengths = free.norm(dim=1, keepdim=True) / scale
    factors = (8 / lengths).clamp(max=1)
    assert lengths.min() < 8 < lengths.max()
    torch.testing.assert_close(bounded, free * factors, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close([loss.terms['pull'], loss.terms['pull_factor']], [lengths.mean(), factors.mean()])


def test_it_counts_the_weight_that_a_warmup_sets():
    student, teacher, labels = logits(20, 10)
    loss = AEKTLoss(max_pull=8.0)
    loss.loss_weight = 1e-3
    light = loss(student, teacher, labels)
    assert loss.terms['pull_factor'] == 1 and loss.terms['pull'] < 8
    torch.testing.assert_close(light, 1e-3 * AEKTLoss(max_pull=None)(student, teacher, labels), rtol=1e-10, atol=0)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_any_precision_and_no_gradient(dtype):
    student, teacher, labels = (value.detach() for value in logits(20, 10))
    student = student.to(dtype)
    exact = AEKTLoss()(student.double(), teacher, labels)
    with torch.no_grad():
        torch.testing.assert_close(AEKTLoss()(student, teacher.to(dtype).to(torch.float64), labels), exact,
                                   rtol=5e-2, atol=0, check_dtype=False)
    student.requires_grad_()
    AEKTLoss()(student, teacher.float(), labels).backward()
    assert student.grad.dtype == dtype and student.grad.isfinite().all()


def test_equal_networks_and_numbers_that_are_none():
    student, _, labels = logits(3, 5)
    loss = AEKTLoss(gamma=0, reduction='none')
    losses = loss(student, student.detach().clone(), labels)
    assert torch.autograd.grad(losses.sum(), student)[0].abs().max() < 1e-12 and loss.terms['pull_factor'] == 1
    broken = student.detach().clone()
    broken[0, 0] = float('nan')
    losses = loss(broken, student.detach(), labels)
    assert losses[0].isnan() and losses[1:].isfinite().all()


def test_a_second_derivative_is_refused():
    student, teacher, labels = logits(3, 5)
    with pytest.raises(RuntimeError, match='cannot be differentiated twice'):
        torch.autograd.grad(AEKTLoss()(student, teacher, labels), student, create_graph=True)


@pytest.mark.parametrize('bound, words', [(None, 'set its max_pull, 1 for instance'), (2.0, 'lower its max_pull=2')])
def test_the_remedy_for_a_loss_that_is_nan_names_the_bound(bound, words):
    assert AEKTLoss(max_pull=bound).nonfinite_remedy == f'AEKTLoss: {words}, or lower the learning rate'
