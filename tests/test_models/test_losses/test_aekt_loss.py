"""AEKT at its exact values, in every number format and at its ends; its formula is in test_aekt_formula.py."""
import math

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


def test_nothing_makes_the_host_wait_for_soft_labels():
    """Tensors on the meta device have no values: whatever would read one, as ``.item()`` does, fails there."""
    student = torch.empty(4, 10, device='meta', requires_grad=True)
    loss = AEKTLoss()
    loss(student, torch.empty(4, 10, device='meta'), torch.empty(4, 10, device='meta')).backward()
    assert student.grad.shape == (4, 10) and all(term.device.type == 'meta' for term in loss.terms.values())


@pytest.mark.parametrize('dtype, soft', [(torch.float16, True), (torch.bfloat16, False)])
def test_half_precision_logits_are_computed_in_fp32(dtype, soft):
    student, teacher, labels = logits(16, 100, dtype=dtype)
    if soft:
        labels = torch.rand(16, 100, generator=torch.Generator().manual_seed(8)).to(dtype)
    loss = aekt_loss(student, teacher, labels)
    loss.backward()
    full = student.detach().float().requires_grad_()
    expected = aekt_loss(full, teacher.float(), labels)
    expected.backward()
    assert loss.dtype == torch.float32 and student.grad.dtype == dtype
    assert torch.equal(loss, expected) and torch.equal(student.grad, full.grad.to(dtype))


@pytest.mark.parametrize('dtype, soft', [(torch.float16, False), (torch.bfloat16, True)])
def test_autocast_changes_nothing(dtype, soft):
    student, teacher, labels = logits(16, 100, dtype=torch.float32)
    if soft:
        labels = torch.rand(16, 100, generator=torch.Generator().manual_seed(9))
    plain = aekt_loss(student, teacher, labels)
    with torch.autocast('cpu', dtype=dtype):
        cast = aekt_loss(student, teacher, labels)
    assert cast.dtype == torch.float32 and torch.equal(cast, plain)
    assert torch.equal(*(torch.autograd.grad(loss, student)[0] for loss in (cast, plain)))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('form', ['ratio', 'no_confidence'])
@pytest.mark.parametrize('max_ratio', [2.0, None])
@pytest.mark.parametrize('num_classes', [2, 5])
def test_extreme_logits_stay_finite(dtype, form, max_ratio, num_classes):
    """Each class in turn is the one far ahead, or far behind, for the student and for the teacher."""
    peaks = 1e4 * torch.cat([torch.eye(num_classes), -torch.eye(num_classes), torch.zeros(1, num_classes)])
    count = len(peaks)
    student = peaks.repeat_interleave(count, 0).to(dtype).requires_grad_()
    teacher = peaks.repeat(count, 1).to(dtype)
    hard = torch.zeros(count**2, dtype=torch.long)
    mixed = torch.tensor([0.6, 0.4] + [0.0] * (num_classes - 2)).repeat(count**2, 1)
    for labels in (hard, mixed):
        for tau in (0.5, 20.0):
            losses = aekt_loss(student, teacher, labels, tau=tau, target_form=form, max_ratio=max_ratio,
                               reduction='none')
            assert torch.isfinite(losses).all()
            gradient, = torch.autograd.grad(losses.sum(), student)
            # fp16 ends at 65504: the bare ratio's honest gradient has no number there
            if max_ratio is not None or dtype != torch.float16:
                assert torch.isfinite(gradient).all()


@pytest.mark.parametrize('which, value, soft', [('student', math.nan, False), ('teacher', math.inf, True)])
def test_logits_that_are_no_numbers_give_no_finite_loss(which, value, soft):
    student, teacher, labels = logits()
    if soft:
        labels = torch.rand(5, 6, generator=torch.Generator().manual_seed(12))
    with torch.no_grad():
        (student if which == 'student' else teacher)[2, 3] = value
    finite = torch.isfinite(aekt_loss(student, teacher, labels, reduction='none'))
    assert finite.tolist() == [True, True, False, True, True]


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
