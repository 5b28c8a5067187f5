"""AEKT at its exact values, its module, and what it refuses; its formula is in test_aekt_formula.py."""
import pytest
import torch
import torch.nn.functional as F

from mmkd_atsc.models.losses import AEKTLoss
from mmkd_atsc.registry import MODELS
from tests.test_models.test_losses.aekt_cases import aekt_loss, logits

PAPERS = dict(gamma=1.0, max_pull=None)


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


def test_module_is_built_from_a_config_and_equals_the_function_and_the_teacher_gets_no_gradient():
    settings = dict(tau=3.0, alpha=0.5, beta=2.0, gamma=0.7, target_form='no_confidence', max_ratio=1.5,
                    soft_target_topk=3, reduction='sum')
    loss = MODELS.build(dict(type='mmkd_atsc.AEKTLoss', loss_weight=0.5, max_pull=None, **settings))
    student, teacher, _ = logits()
    scores = torch.rand(5, 6, generator=torch.Generator().manual_seed(10))
    value = loss(preds_S=student, preds_T=teacher.requires_grad_(), gt_labels=scores)
    torch.testing.assert_close(value, 0.5 * aekt_loss(student, teacher, scores, **settings))
    value.backward()
    assert teacher.grad is None and student.grad is not None


@pytest.mark.parametrize('soft', [False, True])
def test_nothing_makes_the_host_wait(soft):
    """Tensors on the meta device have no values: whatever would read one, as ``.item()`` does, fails there."""
    student = torch.empty(4, 10, device='meta', requires_grad=True)
    labels = torch.empty(4, 10, device='meta') if soft else torch.empty(4, dtype=torch.long, device='meta')
    loss = AEKTLoss()
    loss(student, torch.empty(4, 10, device='meta'), labels).backward()
    assert student.grad.shape == (4, 10) and all(term.device.type == 'meta' for term in loss.terms.values())


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
