"""AEKT in every number format, and at its ends."""
import math

import pytest
import torch

from tests.test_models.test_losses.aekt_cases import aekt_loss, logits


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
