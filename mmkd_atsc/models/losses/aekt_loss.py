"""AEKT's distillation loss: three terms for each sample, in log space, in few kernels."""
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_choice, check_number
from mmkd_atsc.registry import MODELS

from .pull import bound_pull

TARGET_FORMS = ('ratio', 'no_confidence')
TERMS = ('tckd', 'nckd', 'target', 'ratio', 'student_confidence', 'teacher_confidence')
_ABSENT = -1e30  # added to a logit, it removes the class: exp gives 0, and unlike -inf it leaves no nan


def aekt_loss(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, tau: float = 4.0, alpha: float = 1.0,
              beta: float = 8.0, gamma: float = 1.0, target_form: str = 'ratio', max_ratio: float | None = 2.0,
              soft_target_topk: int = 2, reduction: str = 'mean') -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and the batch means of its terms; :class:`AEKTLoss` has the formula and the arguments."""
    check_options(tau, alpha, beta, gamma, target_form, max_ratio, soft_target_topk, reduction)
    if student_logits.shape != teacher_logits.shape or student_logits.dim() != 2 or student_logits.shape[1] < 2:
        raise ValueError('logits must be (N, C) with at least 2 classes, of one shape: student '
                         f'{tuple(student_logits.shape)}, teacher {tuple(teacher_logits.shape)}')
    targets, shares = pick_targets(labels, student_logits, soft_target_topk)  # (N, K), K is 1 for hard labels
    dtype = torch.promote_types(torch.promote_types(student_logits.dtype, teacher_logits.dtype), torch.float32)
    mask = torch.zeros((*targets.shape, student_logits.shape[1]), dtype=dtype, device=targets.device)
    mask.scatter_(2, targets.unsqueeze(2), _ABSENT)
    student, student_odds = _split(student_logits, targets, mask, tau)
    teacher, teacher_odds = _split(teacher_logits.detach(), targets, mask, tau)
    del mask  # as large as the logits
    nckd = (teacher - student).mul_(teacher.exp()).sum(2, keepdim=True)
    # log(1 - p_t) is -softplus(log-odds), and log p_t is the log-odds more than that.
    others_ratio = F.softplus(student_odds, threshold=50) - F.softplus(teacher_odds, threshold=50)
    lead = student_odds - teacher_odds
    log_ratio = others_ratio - lead
    teacher_confidence = teacher_odds.sigmoid()
    tckd = torch.addcmul(others_ratio, teacher_confidence, lead, value=-1)
    target, ratio = _target_term(log_ratio, student_odds, target_form, max_ratio)

    losses = torch.add(tau**2 * alpha * tckd, nckd, alpha=tau**2 * beta).add(target, alpha=tau**2 * gamma)
    terms = torch.stack([tckd, nckd, target, ratio, student_odds.sigmoid(), teacher_confidence]).detach()
    if shares is None:
        losses, terms = losses.flatten(), terms.flatten(1)
    else:
        losses, terms = (losses.squeeze(2) * shares).sum(1), (terms.squeeze(3) * shares).sum(2)
    loss = losses if reduction == 'none' else losses.mean() if reduction == 'mean' else losses.sum()
    return loss, dict(zip(TERMS, terms.mean(1).unbind()))


def _split(logits: Tensor, targets: Tensor, mask: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """log p̂ of the classes other than the label (N, K, C), and the label's log-odds against them (N, K, 1)."""
    others = torch.add(mask, logits.unsqueeze(1), alpha=1 / tau)
    log_prob = others.log_softmax(2)
    # The log-odds are u_t - logsumexp(others). log_softmax has them in the label's place, with their gradient, but
    # _ABSENT took the digits of the value: it is computed again.
    odds = log_prob.gather(2, targets.unsqueeze(2)) if log_prob.requires_grad else None
    with torch.no_grad():
        minus_logsumexp = log_prob.amax(2, keepdim=True) - others.amax(2, keepdim=True)
        odds = torch.add(minus_logsumexp, logits.gather(1, targets).unsqueeze(2), alpha=1 / tau, out=odds)
    return log_prob, odds


def _target_term(log_ratio: Tensor, log_odds: Tensor, form: str, max_ratio: float | None) -> tuple[Tensor, Tensor]:
    """The target term, and the ratio itself for the log."""
    # Beyond the largest number that leaves room for a batch's sum, a bare ratio goes on linearly too.
    log_highest = math.log(torch.finfo(log_ratio.dtype).max) - 40 * math.log(2)
    ratio = log_ratio.detach().clamp(max=log_highest).exp()
    if form == 'no_confidence':
        return -(ratio if max_ratio is None else ratio.clamp(max=max_ratio)) * log_odds, ratio
    if max_ratio is None:
        return log_ratio.clamp(max=log_highest).exp() + math.exp(log_highest) * (log_ratio - log_highest).relu(), ratio
    # R(r) = m (1 + elu(log(r / m))), the product and the sum in one kernel
    return torch.rsub(F.elu(log_ratio - math.log(max_ratio)), max_ratio, alpha=-max_ratio), ratio


def pick_targets(labels: Tensor, logits: Tensor, soft_target_topk: int) -> tuple[Tensor, Tensor | None]:
    """Class indices (N, K), and for soft labels their shares (N, K), which sum to 1."""
    num_samples, num_classes = logits.shape
    if labels.shape == (num_samples, ):
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise TypeError(f'labels of shape (N,) must be integers, got {labels.dtype}')
        return labels.long().unsqueeze(1), None
    if labels.shape != (num_samples, num_classes):
        raise ValueError(f'labels of shape {tuple(labels.shape)} must be ({num_samples},) class indices or '
                         f'({num_samples}, {num_classes}) scores, as the logits')
    scores = labels.detach().to(torch.promote_types(logits.dtype, torch.float32))
    mass = scores.sum(1)
    # Checked on the CPU only: to read from a GPU is to wait for it. nan fails every comparison.
    if labels.device.type == 'cpu' and not bool((scores >= 0).all() & (mass > 0).all() & (mass < math.inf).all()):
        raise ValueError('soft labels must be finite, not negative, and hold a positive score in every row')
    shares, targets = scores.topk(min(soft_target_topk, num_classes), dim=1)
    return (targets, None) if targets.shape[1] == 1 else (targets, shares / shares.sum(1, keepdim=True))


def check_options(tau: float, alpha: float, beta: float, gamma: float, target_form: str, max_ratio: float | None,
                   soft_target_topk: int, reduction: str) -> None:
    check_number('tau', tau, above=0)
    for name, weight in (('alpha', alpha), ('beta', beta), ('gamma', gamma)):
        check_number(name, weight, low=0)
    check_choice('target_form', target_form, TARGET_FORMS)
    check_number('max_ratio', max_ratio, above=0, optional=True)
    check_number('soft_target_topk', soft_target_topk, low=1, integer=True)
    check_choice('reduction', reduction, ('mean', 'sum', 'none'))


@MODELS.register_module()
class AEKTLoss(nn.Module):
    r"""Adaptive explicit knowledge transfer: the logit distillation of https://arxiv.org/abs/2409.01679.

    With p^S and p^T the softmax of the student's and the teacher's logits over the temperature, t the target class and
    p̂ = p renormalised over the classes other than t:

    .. math::
        L = w \tau^2 \left( \alpha\, \mathrm{KL}\big([p^T_t, 1-p^T_t] \,\|\, [p^S_t, 1-p^S_t]\big)
            + \beta\, \mathrm{KL}\big(\hat p^T \,\|\, \hat p^S\big) + \gamma\, R\big(p^T_t / p^S_t\big) \right)

        R(r) = r \ \text{if}\ r \le m, \quad m\,(1 + \log(r / m)) \ \text{else}

    The first two terms are DKD's (``gamma=0`` is DKD). The third raises the student's confidence in the target class:
    the lower it is beside the teacher's, the stronger the pull, and never stronger than ``m = max_ratio``.

    The paper's abstract and figures fix the three terms, the ratio, the layer after the student's logits
    (:class:`~mmkd_atsc.models.connectors.SerializationFC`) and the place of the cross-entropy. Its equations were not
    available to us: the form of the ratio term is our reading, hence ``target_form``.

    The loss is computed in fp32 (fp64 for fp64 logits), under autocast too. The teacher gets no gradient.

    Args:
        tau: Temperature.
        alpha, beta, gamma: Weights of the target class term (TCKD), of the other classes (NCKD), of the ratio term.
            gamma=None: 1 / tau, for the ratio's gradient falls with 1 / tau, that of the others with 1 / tau**2.
        target_form: 'ratio' is the formula above; 'no_confidence' leaves the factor 1 - p^S_t out of its gradient: the
            term is -min(r, m), as a constant, times the student's log-odds of the target class.
        max_ratio: The bound m; None for the bare ratio, with which training diverges (a fresh student's is 30 to 90).
        soft_target_topk: With soft labels the loss is the expectation over this many of a sample's largest ones.
        loss_weight: Weight w, read at each forward: a warm-up may change it.
        max_pull: The longest gradient of a sample on its logits (:func:`bound_pull`); the cross-entropy's is at most
            1.4. None is the published loss, whose tens of times that spoil a short training.
        reduction: 'mean' and 'sum' over samples, or 'none'.

    ``terms`` has the last forward's batch means, detached: 'tckd', 'nckd' and 'target' without weights and tau**2,
    'ratio' (unbounded), 'student_confidence' and 'teacher_confidence' (p_t at ``tau``); with ``max_pull`` also 'pull',
    the mean length of a sample's gradient before the bound, and 'pull_factor', by which it is shortened.

    Examples:
        >>> loss = MODELS.build(dict(type='mmkd_atsc.AEKTLoss', tau=4.0, beta=8.0))
        >>> student, labels = torch.zeros(8, 100, requires_grad=True), torch.arange(8)
        >>> loss(student, 12.0 * F.one_hot(labels, 100), labels).backward()
        >>> student.grad[0, 0] < 0 < student.grad[0, 1]  # towards the target class, away from the others
        tensor(True)
        >>> print('{ratio:.1f} {student_confidence:.2f} {teacher_confidence:.2f}'.format(**loss.terms))
        16.9 0.01 0.17
    """

    compares_logits = True

    @classmethod
    def method_name(cls, config: dict) -> str:
        """What tables call the method: without its third term the loss is DKD's."""
        return 'AEKT' if config.get('gamma', 1.0) else 'DKD'

    @property
    def nonfinite_remedy(self) -> str:
        bound = 'set its max_pull, 1 for instance' if self.max_pull is None else f'lower its max_pull={self.max_pull:g}'
        return f'{type(self).__name__}: {bound}, or lower the learning rate'

    def __init__(self, tau: float = 4.0, alpha: float = 1.0, beta: float = 8.0, gamma: float | None = None,
                 target_form: str = 'ratio', max_ratio: float | None = 2.0, soft_target_topk: int = 2,
                 loss_weight: float = 1.0, reduction: str = 'mean', max_pull: float | None = 1.0) -> None:
        super().__init__()
        gamma = 1 / check_number('tau', tau, above=0) if gamma is None else gamma
        check_options(tau, alpha, beta, gamma, target_form, max_ratio, soft_target_topk, reduction)
        self.tau, self.alpha, self.beta, self.gamma = tau, alpha, beta, gamma
        self.target_form, self.max_ratio = target_form, max_ratio
        self.soft_target_topk, self.reduction = soft_target_topk, reduction
        self.loss_weight = check_number('loss_weight', loss_weight, low=0)
        self.max_pull = check_number('max_pull', max_pull, above=0, optional=True)
        self.terms: dict[str, Tensor] = {}

    def forward(self, preds_S: Tensor, preds_T: Tensor, gt_labels: Tensor) -> Tensor:
        """The loss of logits (N, C) with class indices (N,) or scores (N, C); the names are MMRazor's."""
        alpha, beta, gamma = (self.loss_weight * weight for weight in (self.alpha, self.beta, self.gamma))

        def loss(logits: Tensor, reduction: str) -> tuple[Tensor, dict[str, Tensor]]:
            return aekt_loss(logits, preds_T, gt_labels, self.tau, alpha, beta, gamma, self.target_form,
                             self.max_ratio, self.soft_target_topk, reduction)

        if self.max_pull is None:
            value, self.terms = loss(preds_S, self.reduction)
            return value
        losses, self.terms = bound_pull(lambda logits: loss(logits, 'none'), preds_S, self.max_pull)
        return losses if self.reduction == 'none' else losses.mean() if self.reduction == 'mean' else losses.sum()
