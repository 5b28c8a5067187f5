"""AEKT as a function of logits and labels: the checks, and the way to :mod:`.aekt_closed_form`."""
import math
from typing import Optional, Tuple

import torch
from torch import Tensor

from mmkd_atsc.errors.checks import check_choice, check_number

from .aekt_closed_form import GivenGradient, closed_form

TARGET_FORMS = ('ratio', 'no_confidence')
REDUCTIONS = ('mean', 'sum', 'none')


def aekt_loss(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, tau: float = 4.0, alpha: float = 1.0,
              beta: float = 8.0, gamma: float = 1.0, target_form: str = 'ratio', max_ratio: Optional[float] = 2.0,
              soft_target_topk: int = 2, reduction: str = 'mean') -> Tensor:
    """AEKT's distillation loss; :class:`~mmkd_atsc.models.losses.AEKTLoss` has the formula and the arguments.

    Examples:
        >>> student = torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
        >>> teacher = torch.tensor([[1.0, 0.0, 0.0]])
        >>> loss = aekt_loss(student, teacher, torch.tensor([0]))  # equal confidence: a ratio of 1, times tau**2
        >>> loss.item()
        16.0
    """
    check_settings(tau, alpha, beta, gamma, target_form, max_ratio, soft_target_topk, reduction)
    losses, _ = aekt_per_sample(student_logits, teacher_logits, labels, tau, alpha, beta, gamma, target_form, max_ratio,
                                soft_target_topk)
    return reduce_losses(losses, reduction)


def aekt_per_sample(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, tau: float, alpha: float,
                    beta: float, gamma: float, target_form: str, max_ratio: Optional[float],
                    soft_target_topk: int) -> Tuple[Tensor, Tensor]:
    """Each sample's loss (N,), and detached statistics (6, N) in the order of ``aekt_closed_form.STATISTICS``."""
    check_logits(student_logits, teacher_logits)
    targets, shares = pick_targets(labels, student_logits, soft_target_topk)
    with_gradient = torch.is_grad_enabled() and student_logits.requires_grad
    with torch.no_grad():
        result = closed_form(student_logits, teacher_logits, targets, shares, tau=tau, alpha=alpha, beta=beta,
                             gamma=gamma, target_form=target_form, max_ratio=max_ratio, with_gradient=with_gradient)
    losses = result.losses
    if with_gradient:
        losses = GivenGradient.apply(student_logits, losses, result.gradient)
    return losses, result.statistics


def reduce_losses(losses: Tensor, reduction: str) -> Tensor:
    if reduction == 'none':
        return losses
    return losses.mean() if reduction == 'mean' else losses.sum()


def pick_targets(labels: Tensor, logits: Tensor, soft_target_topk: int) -> Tuple[Tensor, Optional[Tensor]]:
    """Class indices (N, K), and for soft labels their shares (N, K), which sum to 1.

    Values are checked on the CPU only: on a GPU reading them would make the host wait for it in every step. There an
    index out of range stops in ``gather``'s own device assertion, and a row without mass gives nan.

    Examples:
        >>> targets, shares = pick_targets(torch.tensor([[0.1, 0.6, 0.2, 0.1]]), torch.zeros(1, 4), 2)
        >>> targets.tolist(), [round(share, 2) for share in shares[0].tolist()]
        ([[1, 2]], [0.75, 0.25])
    """
    num_samples, num_classes = logits.shape
    if labels.device != logits.device:
        raise ValueError(f'labels are on {labels.device}, the logits on {logits.device}')
    on_cpu = labels.device.type == 'cpu' and num_samples > 0
    if labels.shape == (num_samples, ):
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise TypeError(f'labels of shape (N,) must be integers, got {labels.dtype}')
        if on_cpu:
            low, high = (int(bound) for bound in labels.aminmax())
            if low < 0 or high >= num_classes:
                raise ValueError(f'label {low if low < 0 else high} is out of range: the logits have {num_classes} '
                                 f'classes, 0 to {num_classes - 1}')
        return labels.long().unsqueeze(1), None

    if labels.shape != (num_samples, num_classes):
        raise ValueError(f'labels of shape {tuple(labels.shape)} must be ({num_samples},) class indices or '
                         f'({num_samples}, {num_classes}) scores, as the logits')
    scores = labels.detach().to(torch.promote_types(logits.dtype, torch.float32))
    if on_cpu:
        lowest, mass = scores.amin(), scores.sum(1)
        # nan fails every comparison, so a row that holds one is refused as well.
        if not bool((lowest >= 0) & (mass > 0).all() & (mass < math.inf).all()):
            raise ValueError('soft labels must be finite, not negative, and hold a positive score in every row')
    shares, targets = scores.topk(min(soft_target_topk, num_classes), dim=1)
    if targets.shape[1] == 1:
        return targets, None
    return targets, shares.div_(shares.sum(1, keepdim=True))


def check_logits(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Two floating-point (N, C) tensors of one shape on one device, C at least 2, or one line that says what is not."""
    for name, logits in (('student', student_logits), ('teacher', teacher_logits)):
        if not logits.is_floating_point():
            raise TypeError(f'{name} logits must be floating-point numbers, got {logits.dtype}')
        if logits.dim() != 2 or logits.shape[1] < 2:
            raise ValueError(f'{name} logits of shape {tuple(logits.shape)} must be (N, C) with at least 2 classes')
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(f'student logits of shape {tuple(student_logits.shape)} and teacher logits of shape '
                         f'{tuple(teacher_logits.shape)} differ')
    if student_logits.device != teacher_logits.device:
        raise ValueError(f'student logits are on {student_logits.device}, teacher logits on {teacher_logits.device}')


def check_settings(tau: float, alpha: float, beta: float, gamma: float, target_form: str, max_ratio: Optional[float],
                   soft_target_topk: int, reduction: str) -> None:
    check_number('tau', tau, above=0)
    check_number('alpha', alpha, low=0)
    check_number('beta', beta, low=0)
    check_number('gamma', gamma, low=0)
    check_choice('target_form', target_form, TARGET_FORMS)
    if max_ratio is not None:
        check_number('max_ratio', max_ratio, above=0)
    check_number('soft_target_topk', soft_target_topk, low=1, integer=True)
    check_choice('reduction', reduction, REDUCTIONS)
