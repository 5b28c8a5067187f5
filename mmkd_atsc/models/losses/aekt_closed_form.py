"""AEKT's three terms and their gradient, written out by hand: one pass over the logits gives both.

Everything is measured per row from the largest logit that is no label of the sample (``peak``). Taking it from the
largest logit of all would lose the other classes as soon as one label dominates: their exponentials would underflow,
and 1 - p_t with them. With u, v the logits of student and teacher, measured so and divided by the temperature, and
A_k, B_k the logarithms of the mass of all classes but the label k::

    log-odds of label k          x_k = u_k - A_k             y_k = v_k - B_k
    the others, renormalised     log p̂_i = u_i - A_k         log q̂_i = v_i - B_k
    gradient on u_k              G_k = alpha (p_k - q_k) - gamma (slope of the target term)
    gradient on the other u_i    (beta - G_k) p̂_i - beta q̂_i

A hard label is the case of one label a sample; soft labels share every pass over the (N, C) logits.
"""
import math
from typing import NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

STATISTICS = ('tckd', 'nckd', 'target', 'ratio', 'student_confidence', 'teacher_confidence')
_ABSENT = -1e30  # stands in a label's place among the other classes: exp gives 0, and unlike -inf it leaves no nan


class ClosedForm(NamedTuple):
    """What :func:`closed_form` knows of a batch."""
    losses: Tensor  # (N,)
    statistics: Tensor  # (6, N), in the order of STATISTICS
    gradient: Optional[Tensor]  # (N, C), of each sample's own loss


def closed_form(student: Tensor, teacher: Tensor, labels: Tensor, shares: Optional[Tensor], *, tau: float, alpha: float,
                beta: float, gamma: float, target_form: str, max_ratio: Optional[float],
                with_gradient: bool) -> ClosedForm:
    """Losses, statistics and gradient; ``labels`` and ``shares`` are (N, K), ``shares`` None where K is 1."""
    dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    at_labels, rest, log_rest, spent, dot = _split_off_labels(student, teacher, labels, tau, dtype)
    log_mass, log_others = _all_but_each_label(at_labels, log_rest)

    # What turns exp(rest) into p̂ and q̂. log_mass >= 0 unless the labels leave no class over; exp(rest) is 0 then.
    student_scale, teacher_scale = log_mass.clamp(min=0).neg_().exp_()
    student_mass, teacher_mass = log_mass
    nckd = (log_rest[1] - teacher_mass).exp_() * (student_mass - teacher_mass) + teacher_scale * dot
    if shares is not None:
        student_others, teacher_others = log_others.exp()
        step = (log_others[1] - log_others[0]).nan_to_num_(nan=0.0)  # a label against itself is -inf - -inf
        nckd += (teacher_others * step).sum(2)

    margin = at_labels - log_mass
    log_prob = F.logsigmoid(torch.stack([margin, -margin], dim=1))  # [student, teacher][is the label, is another class]
    prob = log_prob.exp()
    (student_prob, student_doubt), (teacher_prob, _) = prob
    log_ratios = log_prob[1] - log_prob[0]
    tckd, log_ratio = (prob[1] * log_ratios).sum(0), log_ratios[0]
    # A bare ratio of confidences e^-10000 apart is no floating-point number. Where its type has room left for little
    # more than the sum over a batch, it goes on linearly in its logarithm, as a bounded one does.
    log_highest = math.log(torch.finfo(dtype).max) - 40 * math.log(2)
    ratio = log_ratio.clamp(max=log_highest).exp_()
    log_limit = log_highest if max_ratio is None else math.log(max_ratio)
    weight = ratio if max_ratio is None else log_ratio.clamp(max=log_limit).exp_()
    if target_form == 'ratio':
        target, slope = weight * (1 + (log_ratio - log_limit).clamp_(min=0)), weight * student_doubt
    else:
        target, slope = -weight * margin[0], weight

    statistics = torch.stack([tckd, nckd, target, ratio, student_prob, teacher_prob])
    statistics = (statistics.squeeze(2) if shares is None else (statistics * shares).sum(2)).to(dtype)
    losses = (statistics[0] * (tau**2 * alpha)).add_(statistics[1], alpha=tau**2 * beta)
    losses.add_(statistics[2], alpha=tau**2 * gamma)
    if not with_gradient:
        return ClosedForm(losses, statistics, None)

    # The loss's tau**2 is here tau: the derivative by the logits divides by it once.
    on_labels = ((student_prob - teacher_prob) * (tau * alpha)).sub_(slope, alpha=tau * gamma)
    on_student = tau * beta - on_labels
    if shares is None:
        student_rows, teacher_rows = on_student * student_scale, teacher_scale
    else:
        on_student *= shares
        student_rows = (on_student * student_scale).sum(1, keepdim=True)
        teacher_rows = (shares * teacher_scale).sum(1, keepdim=True)
        # A label is also one of the other classes, for every other label.
        on_labels = on_labels * shares + (on_student.unsqueeze(2) * student_others).sum(1)
        on_labels.sub_((shares.unsqueeze(2) * teacher_others).sum(1), alpha=tau * beta)
    student_rest, teacher_rest = rest
    gradient = torch.mul(student_rest, student_rows.to(dtype), out=spent)
    gradient.addcmul_(teacher_rest, teacher_rows.to(dtype), value=-tau * beta).scatter_(1, labels, on_labels.to(dtype))
    return ClosedForm(losses, statistics, gradient)


def _split_off_labels(student: Tensor, teacher: Tensor, labels: Tensor, tau: float,
                      dtype: torch.dtype) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """All passes over the (N, C) logits; the first axis of the results is (student, teacher).

    Returns:
        tuple: The labels' logits (2, N, K), exp of the other logits (2, N, C) with 0 at the labels, the logarithm of
        its sum (2, N, 1), a spent (N, C) buffer, and sum_i exp(v_i) (v_i - u_i) over the other classes (N, 1).
    """
    num_classes, num_labels = student.shape[1], labels.shape[1]
    rest = student.new_empty((2, *student.shape), dtype=dtype)
    rest[0].copy_(student)
    rest[1].copy_(teacher)
    index = labels.expand(2, -1, -1)
    at_labels = rest.gather(2, index)
    rest.scatter_(2, index, _ABSENT)
    peak = rest.amax(2, keepdim=True) if num_labels < num_classes else at_labels.amax(2, keepdim=True)
    # First the difference, then the division: that rounds off nothing, however far from 0 the logits lie.
    rest.sub_(peak).div_(tau)
    precise = _precise(rest)
    at_labels = (at_labels.to(precise) - peak).div_(tau)
    gap = rest[1] - rest[0]
    rest.exp_()
    dot = gap.mul_(rest[1]).sum(1, keepdim=True)
    return at_labels, rest, rest.sum(2, keepdim=True).to(precise).log_(), gap, dot


def _precise(tensor: Tensor) -> torch.dtype:
    """The type for what is a number a sample. fp64 costs nothing there, and log p^T_t - log p^S_t needs it: of two
    confidences of e^-10000 fp32 would keep the third digit of the ratio. Apple's GPUs have no fp64."""
    return tensor.dtype if tensor.device.type == 'mps' else torch.float64


def _all_but_each_label(at_labels: Tensor, log_rest: Tensor) -> Tuple[Tensor, Optional[Tensor]]:
    """log of the mass of all classes but label k (2, N, K), and log p̂ of the other labels j there (2, N, k, j)."""
    num_labels = at_labels.shape[2]
    if num_labels == 1:
        return log_rest, None
    own = torch.eye(num_labels, dtype=torch.bool, device=at_labels.device)
    others = at_labels.unsqueeze(2).expand(-1, -1, num_labels, -1).masked_fill(own, -math.inf)
    rest = log_rest.unsqueeze(2).expand(-1, -1, num_labels, -1)
    log_mass = torch.cat([others, rest], dim=3).logsumexp(3)
    return log_mass, others - log_mass.unsqueeze(3)


class GivenGradient(torch.autograd.Function):
    """``losses`` (N,) as a function of the student's logits, its gradient (N, C) known beforehand."""

    @staticmethod
    def forward(ctx, student_logits: Tensor, losses: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        ctx.logits_dtype = student_logits.dtype
        return losses.clone()

    @staticmethod
    def backward(ctx, grad_losses: Tensor) -> Tuple[Tensor, None, None]:
        # A graph of this would be empty: whoever asks for one would get a second derivative of 0 and no word of it.
        if torch.is_grad_enabled():
            raise RuntimeError('the AEKT loss has no second derivative: call backward() without create_graph=True')
        gradient, = ctx.saved_tensors
        # Kept in fp32 until here: before the loss scale comes in, fp16 would round the small gradients to 0.
        result = torch.empty_like(gradient, dtype=ctx.logits_dtype)
        return torch.mul(gradient, grad_losses.unsqueeze(1), out=result), None, None
