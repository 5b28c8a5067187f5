"""The derivatives of AEKT."""
import pytest
import torch

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
