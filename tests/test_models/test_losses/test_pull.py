"""The bound on the pull on a sample's logits: its formula, its gradient, and where it does nothing."""
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmkd_atsc.models.losses import AEKTLoss
from mmkd_atsc.models.losses.pull import bound_pull
from tests.test_models.test_losses.aekt_cases import logits


def kd(teacher, tau):
    def loss(student):
        target = (teacher / tau).softmax(1)
        losses = F.kl_div((student / tau).log_softmax(1), target, reduction='none').sum(1) * tau**2
        return losses, {}
    return loss


def softmax(x):
    x = np.exp(x - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


@pytest.mark.parametrize('bound', [0.5, 1.5, 100.0])
def test_losses_and_gradients_are_those_of_the_formula(bound, tau=4.0):
    """KD's gradient on the logits is tau (p^S - p^T), here in NumPy."""
    student, teacher, _ = logits(20, 10)
    losses, terms = bound_pull(kd(teacher, tau), student, bound)
    upstream = torch.linspace(-1, 2, 20, dtype=torch.float64)
    gradient, = torch.autograd.grad((losses * upstream).sum(), student)

    p, q = softmax(student.detach().numpy() / tau), softmax(teacher.numpy() / tau)
    pulls = np.linalg.norm(tau * (p - q), axis=1)
    factors = np.minimum(1, bound / pulls)
    np.testing.assert_allclose(losses.detach(), tau**2 * (q * np.log(q / p)).sum(1), rtol=1e-10)
    np.testing.assert_allclose(gradient, (upstream.numpy() * factors)[:, None] * tau * (p - q), rtol=1e-10, atol=1e-14)
    assert terms['pull'].item() == pytest.approx(pulls.mean()) and 0.3 < pulls.min() < pulls.max() < 4
    assert terms['pull_factor'].item() == pytest.approx(factors.mean())


@pytest.mark.parametrize('soft', [False, True])
@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_aekt_pulls_no_sample_harder_than_its_bound(reduction, soft):
    student, teacher, labels = logits(20, 10)
    labels = torch.rand(20, 10, dtype=torch.float64) if soft else labels
    free, = torch.autograd.grad(AEKTLoss(max_pull=None, reduction='sum')(student, teacher, labels), student)
    loss = AEKTLoss(max_pull=8.0, reduction=reduction)
    value = loss(student, teacher, labels)
    bounded, = torch.autograd.grad(value.sum(), student)
    bounded = bounded * (20 if reduction == 'mean' else 1)
    lengths = free.norm(dim=1, keepdim=True)
    assert lengths.min() < 8 < lengths.max()
    torch.testing.assert_close(bounded, free * (8 / lengths).clamp(max=1), rtol=1e-10, atol=1e-12)
    assert value.shape == ((20, ) if reduction == 'none' else ())


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
    student, _, _ = logits(3, 5)
    losses, terms = bound_pull(kd(student.detach(), 4.0), student, 1.0)
    assert torch.autograd.grad(losses.sum(), student)[0].abs().max() < 1e-12 and terms['pull_factor'] == 1
    broken = student.detach().clone()
    broken[0, 0] = float('nan')
    losses, _ = bound_pull(kd(student.detach(), 4.0), broken, 1.0)
    assert losses[0].isnan() and losses[1:].isfinite().all()


def test_a_second_derivative_is_refused():
    student, teacher, labels = logits(3, 5)
    with pytest.raises(RuntimeError, match='cannot be differentiated twice'):
        torch.autograd.grad(AEKTLoss()(student, teacher, labels), student, create_graph=True)


def test_a_bound_that_is_no_bound_is_refused():
    with pytest.raises(ValueError, match='max_pull=0'):
        AEKTLoss(max_pull=0)


@pytest.mark.parametrize('bound, words', [(None, 'set its max_pull, 1 for instance'), (2.0, 'lower its max_pull=2')])
def test_the_remedy_for_a_loss_that_is_nan_names_the_bound(bound, words):
    assert AEKTLoss(max_pull=bound).nonfinite_remedy == f'AEKTLoss: {words}, or lower the learning rate'
