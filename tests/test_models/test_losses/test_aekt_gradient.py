"""The derivatives of AEKT."""
import math

import pytest
import torch
import torch.nn.functional as F

from tests.test_models.test_losses.aekt_cases import aekt_loss, logits


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


def transcribed_target_term(student, teacher, labels, tau, max_ratio, form):
    """The target term for autograd, with the stop-gradients in place of derivatives by hand."""
    own = F.one_hot(labels, student.shape[1]).bool()
    u, v = student / tau, teacher / tau
    log_p, log_q = u.log_softmax(1)[own], v.log_softmax(1)[own]
    weight = (log_q - log_p).exp().clamp(max=math.inf if max_ratio is None else max_ratio).detach()
    if form == 'ratio':
        return -tau**2 * weight * log_p
    return -tau**2 * weight * (u[own] - u.masked_fill(own, -math.inf).logsumexp(1))


@pytest.mark.parametrize('max_ratio', [None, 2.0])
@pytest.mark.parametrize('form', ['ratio', 'no_confidence'])
def test_target_term_has_the_gradient_of_its_stop_gradient_transcription(form, max_ratio):
    student, teacher, labels = logits(20)
    loss = aekt_loss(student, teacher, labels, tau=2.5, alpha=0, beta=0, max_ratio=max_ratio, target_form=form,
                     reduction='none')
    transcribed = transcribed_target_term(student, teacher, labels, 2.5, max_ratio, form)
    for losses in (loss, transcribed):
        losses.gradient, = torch.autograd.grad(losses.sum(), student)
    torch.testing.assert_close(loss.gradient, transcribed.gradient, rtol=1e-10, atol=1e-10)
    if form == 'no_confidence':
        torch.testing.assert_close(loss, transcribed, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('form', ['ratio', 'no_confidence'])
@pytest.mark.parametrize('soft', [False, True])
def test_gradient_rows_sum_to_zero(form, soft):
    student, teacher, labels = logits(50, 20)
    if soft:
        labels = torch.rand(50, 20, generator=torch.Generator().manual_seed(2))
    aekt_loss(student, teacher, labels, target_form=form, reduction='sum').backward()
    assert student.grad.abs().sum(1).min() > 1
    torch.testing.assert_close(student.grad.sum(1), torch.zeros(50, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_loss_is_smooth_where_the_bound_sets_in():
    """Equal logits have a ratio of exactly 1: from a little below to a little above it, nothing jumps."""
    teacher = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    step = torch.tensor([[1e-6, 0.0, 0.0]], dtype=torch.float64)
    results = []
    for student in (teacher - step, teacher + step):
        student.requires_grad_()
        loss = aekt_loss(student, teacher, torch.tensor([0]), alpha=0, beta=0, max_ratio=1.0)
        results.append((loss.detach(), *torch.autograd.grad(loss, student)))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


def test_second_derivative():
    student, teacher, labels = logits()
    assert torch.autograd.gradgradcheck(lambda u: aekt_loss(u, teacher, labels), student)
