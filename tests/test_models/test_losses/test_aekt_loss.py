"""Identities, pinned values and derivatives of AEKT, and its module."""
import math

import pytest
import torch
import torch.nn.functional as F

from mmkd_atsc.models.losses import AEKTLoss
from mmkd_atsc.registry import MODELS
from tests.test_models.test_losses.aekt_cases import aekt_loss, logits

PAPERS = dict(gamma=1.0, max_pull=None)


@pytest.mark.parametrize('tau', [0.5, 1.0, 4.0])
def test_kl_divergence_splits_into_tckd_and_nckd(tau):
    student, teacher, labels = logits(30, 10)
    log_p, log_q = (student / tau).log_softmax(1), (teacher / tau).log_softmax(1)
    kl = (log_q.exp() * (log_q - log_p)).sum(1)
    tckd = aekt_loss(student, teacher, labels, tau=tau, alpha=1, beta=0, gamma=0, reduction='none') / tau**2
    nckd = aekt_loss(student, teacher, labels, tau=tau, alpha=0, beta=1, gamma=0, reduction='none') / tau**2
    doubt = 1 - log_q.exp().gather(1, labels.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(tckd + doubt * nckd, kl, rtol=1e-10, atol=1e-12)


def test_without_the_ratio_term_it_is_dkd(beta=8.0):
    student, teacher, labels = logits(30, 10)
    tau, own = 4.0, F.one_hot(labels, 10).double()
    p, q = (student / tau).softmax(1), (teacher / tau).softmax(1)
    two_p, two_q = (torch.stack([(x * own).sum(1), (x * (1 - own)).sum(1)], 1) for x in (p, q))
    hat_p, hat_q = ((x - 1e4 * own).log_softmax(1) for x in (student / tau, teacher / tau))
    dkd = tau**2 * (F.kl_div(two_p.log(), two_q, reduction='batchmean')
                    + beta * F.kl_div(hat_p, hat_q.exp(), reduction='batchmean'))
    ours = aekt_loss(student, teacher, labels, tau=tau, alpha=1, beta=beta, gamma=0)
    torch.testing.assert_close(ours, dkd, rtol=1e-10, atol=0)
    torch.testing.assert_close(torch.autograd.grad(ours, student), torch.autograd.grad(dkd, student),
                               rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('topk', [1, 5])
def test_one_hot_labels_equal_indices(topk):
    student, teacher, labels = logits(12, 5)
    hard = aekt_loss(student, teacher, labels, reduction='none')
    for one_hot in (F.one_hot(labels, 5), F.one_hot(labels, 5).float()):
        soft = aekt_loss(student, teacher, one_hot, soft_target_topk=topk, reduction='none')
        torch.testing.assert_close(soft, hard, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(*(torch.autograd.grad(losses.sum(), student, retain_graph=True)
                                     for losses in (soft, hard)), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float16])
def test_nckd_of_two_classes_is_exactly_zero(dtype):
    student, teacher, labels = logits(9, 2, scale=300.0, dtype=dtype)
    nckd = aekt_loss(student, teacher, labels, alpha=0, beta=8, gamma=0, reduction='none')
    assert torch.equal(nckd, torch.zeros_like(nckd))
    nckd.sum().backward()
    assert torch.equal(student.grad, torch.zeros_like(student))
    student.grad = None
    aekt_loss(student, teacher, labels).backward()
    assert torch.isfinite(student.grad).all() and student.grad.abs().sum() > 0


def test_equal_networks_have_no_kl_and_a_ratio_of_one():
    student, _, labels = logits(9, 50, dtype=torch.float32)
    loss = AEKTLoss(**PAPERS, reduction='none')
    losses = loss(student, student.detach().clone(), labels)
    assert torch.equal(losses, torch.full((9, ), 16.0))
    assert [loss.terms[name].item() for name in ('tckd', 'nckd', 'target', 'ratio')] == [0, 0, 1, 1]


def test_three_classes_by_hand():
    """Student (2/4, 1/4, 1/4), teacher (6/8, 1/8, 1/8 moved to 1.5/8, 0.5/8): p̂ = 1/2, 1/2 and q̂ = 3/4, 1/4."""
    student = torch.tensor([[2.0, 1.0, 1.0]], dtype=torch.float64).log().requires_grad_()
    teacher = torch.tensor([[12.0, 3.0, 1.0]], dtype=torch.float64).log()
    loss = AEKTLoss(**PAPERS, reduction='none', tau=1.0)
    losses = loss(student, teacher, torch.tensor([0]))
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    terms = {name: value.item() for name, value in loss.terms.items()}
    assert terms == pytest.approx(dict(tckd=kl, nckd=kl, target=1.5, ratio=1.5, student_confidence=0.5,
                                       teacher_confidence=0.75), rel=1e-12)
    assert losses.item() == pytest.approx(kl + 8 * kl + 1.5, rel=1e-12)
    # target: (1/2 - 3/4) - 3/2 * 1/2; the others: (8 + 1) p̂ - 8 q̂
    torch.testing.assert_close(torch.autograd.grad(losses.sum(), student)[0],
                               torch.tensor([[-1.0, 4.5 - 6.0, 4.5 - 2.0]], dtype=torch.float64))


def test_module_is_built_from_a_config_and_equals_the_function():
    settings = dict(tau=3.0, alpha=0.5, beta=2.0, gamma=0.7, target_form='no_confidence', max_ratio=1.5,
                    soft_target_topk=3, reduction='sum')
    loss = MODELS.build(dict(type='mmkd_atsc.AEKTLoss', loss_weight=0.5, max_pull=None, **settings))
    student, teacher, _ = logits()
    scores = torch.rand(5, 6, generator=torch.Generator().manual_seed(10))
    torch.testing.assert_close(loss(preds_S=student, preds_T=teacher, gt_labels=scores),
                               0.5 * aekt_loss(student, teacher, scores, **settings))


def test_teacher_gets_no_gradient():
    student, teacher, labels = logits()
    teacher.requires_grad_()
    AEKTLoss()(student, teacher, labels).backward()
    assert teacher.grad is None and student.grad is not None


def test_terms_are_means_that_add_up_to_the_loss():
    student, teacher, labels = logits(40, 10)
    loss = AEKTLoss(tau=4.0, alpha=0.5, beta=2.0, gamma=0.25, max_pull=None)
    assert loss.terms == {}
    value = loss(student, teacher, labels)
    terms = loss.terms
    assert list(terms) == ['tckd', 'nckd', 'target', 'ratio', 'student_confidence', 'teacher_confidence']
    assert all(term.dim() == 0 and not term.requires_grad for term in terms.values())
    torch.testing.assert_close(value, 16 * (0.5 * terms['tckd'] + 2 * terms['nckd'] + 0.25 * terms['target']))
    p, q = ((x / 4).softmax(1).gather(1, labels.unsqueeze(1)) for x in (student.detach(), teacher))
    torch.testing.assert_close([terms[name] for name in ('ratio', 'student_confidence', 'teacher_confidence')],
                               [(q / p).mean(), p.mean(), q.mean()])
    assert terms['ratio'] > terms['target']  # the monitored ratio is not bounded


@pytest.mark.parametrize('soft', [False, True])
def test_nothing_makes_the_host_wait(soft):
    """Tensors on the meta device have no values: whatever would read one, as ``.item()`` does, fails there."""
    student = torch.empty(4, 10, device='meta', requires_grad=True)
    labels = torch.empty(4, 10, device='meta') if soft else torch.empty(4, dtype=torch.long, device='meta')
    loss = AEKTLoss()
    loss(student, torch.empty(4, 10, device='meta'), labels).backward()
    assert student.grad.shape == (4, 10) and all(term.device.type == 'meta' for term in loss.terms.values())


@pytest.mark.parametrize('max_ratio', [None, 2.0, 5.0])
@pytest.mark.parametrize('topk', [0, 2, 6])
def test_gradcheck_of_the_ratio_form(max_ratio, topk):
    student, teacher, labels = logits()
    if topk:
        labels = torch.rand(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ratios = (teacher.softmax(1) / student.softmax(1)).detach()
    assert (ratios > 5).any() and (ratios < 1).any()  # both sides of every bound
    assert torch.autograd.gradcheck(
        lambda u: aekt_loss(u, teacher, labels, tau=2.0, max_ratio=max_ratio, soft_target_topk=max(topk, 1),
                            reduction='none'), student)


BAD_SETTINGS = [
    (dict(tau=0), ValueError, 'tau=0 must be a number greater than 0'),
    (dict(target_form='no_confidense'), ValueError, "'no_confidence'; did you mean 'no_confidence'"),
    (dict(max_ratio=0), ValueError, 'max_ratio=0 must be a number greater than 0'),
    (dict(reduction='batchmean'), ValueError, "reduction='batchmean' is not one of 'mean', 'sum', 'none'"),
]


def refused(error, message, function, *args, **kwargs):
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    assert message in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('settings, error, message', BAD_SETTINGS)
def test_bad_settings_are_refused_in_one_line(settings, error, message):
    refused(error, message, AEKTLoss, **settings)
    refused(error, message, aekt_loss, *logits(), **settings)


Z = torch.zeros
INDICES = Z(4, dtype=torch.long)


@pytest.mark.parametrize('student, teacher, labels, error, message', [
    (Z(4, 1), Z(4, 1), INDICES, ValueError, 'must be (N, C) with at least 2 classes, of one shape: student (4, 1)'),
    (Z(4, 5), Z(4, 5), INDICES + 5, RuntimeError, 'index 5 is out of bounds'),
    (Z(4, 5), Z(4, 5), INDICES.float(), TypeError, 'labels of shape (N,) must be integers, got torch.float32'),
    (Z(4, 5), Z(4, 5), INDICES[:3], ValueError, 'labels of shape (3,) must be (4,) class indices or (4, 5) scores'),
    (Z(4, 5), Z(4, 5), Z(4, 5), ValueError, 'soft labels must be finite, not negative, and hold a positive score'),
])
def test_bad_tensors_are_refused_in_one_line(student, teacher, labels, error, message):
    refused(error, message, AEKTLoss(), student, teacher, labels)
