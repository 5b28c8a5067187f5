"""AEKT's distillation loss as a module that a config can name."""
from typing import Dict, Optional

from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.registry import MODELS

from .aekt_closed_form import STATISTICS
from .aekt_functional import aekt_per_sample, check_settings, reduce_losses


@MODELS.register_module()
class AEKTLoss(nn.Module):
    r"""Adaptive explicit knowledge transfer: the logit distillation of https://arxiv.org/abs/2409.01679.

    With p^S and p^T the softmax of the student's and the teacher's logits over the temperature, t the target class and
    p̂ = p renormalised over the classes other than t:

    .. math::
        L = w \tau^2 \left( \alpha\, \mathrm{KL}\big([p^T_t, 1-p^T_t] \,\|\, [p^S_t, 1-p^S_t]\big)
            + \beta\, \mathrm{KL}\big(\hat p^T \,\|\, \hat p^S\big)
            + \gamma\, R\big(p^T_t / p^S_t\big) \right)

        R(r) = r \ \text{if}\ r \le m, \quad m\,(1 + \log(r / m)) \ \text{else}

    The first two terms are DKD's (``gamma=0`` is DKD). The third pulls the student's confidence in the target class up,
    the harder the further it is below the teacher's, and with ``m = max_ratio`` never harder than ``m`` times.

    The published abstract and figures fix the three terms, the ratio, the FC layer after the student's logits
    (:class:`~mmkd_atsc.models.connectors.SerializationFC`) and where the cross-entropy sits. The paper's equations were
    not available to us: the form of the ratio term is our reading of it, hence the choice by ``target_form``.

    Warning:
        ``max_ratio=None`` takes the ratio bare. At ``tau=4`` a fresh student has a ratio of 30 to 90, which ``tau**2``
        multiplies by 16; with ``gamma=1`` training then diverged within its first epoch.

    The computation is in fp32 (fp64 for fp64 logits), under autocast too, and in log space throughout. The teacher gets
    no gradient. The student's is computed in closed form with the loss; to derive it a second time is refused.

    Args:
        tau (float): Temperature. Defaults to 4.0.
        alpha (float): Weight of the target class term (TCKD). Defaults to 1.0.
        beta (float): Weight of the term of the other classes (NCKD). Defaults to 8.0.
        gamma (float): Weight of the ratio term. Defaults to 1.0.
        target_form (str): ``'ratio'`` is the formula above. ``'no_confidence'`` leaves the factor 1 - p^S_t out of the
            gradient: the term is -min(r, m) times the student's log-odds of the target class, min(r, m) taken as a
            constant. Defaults to 'ratio'.
        max_ratio (float, optional): The bound m; None for the bare ratio. Defaults to 2.0.
        soft_target_topk (int): For labels of shape (N, C) the loss is the expectation over this many of a sample's
            largest labels, renormalised. Defaults to 2.
        loss_weight (float): Weight w, read at each forward: a warm-up may change it. Defaults to 1.0.
        reduction (str): ``'mean'`` and ``'sum'`` over samples, or ``'none'`` for a loss each. Defaults to 'mean'.

    Examples:
        >>> import torch
        >>> from mmkd_atsc.registry import MODELS
        >>> loss = MODELS.build(dict(type='mmkd_atsc.AEKTLoss', tau=4.0, beta=8.0))
        >>> student = torch.zeros(8, 100, requires_grad=True)
        >>> labels = torch.arange(8)
        >>> teacher = 12.0 * torch.nn.functional.one_hot(labels, 100)
        >>> loss(student, teacher, labels).backward()
        >>> student.grad[0, 0] < 0 < student.grad[0, 1]  # towards the target class, away from the others
        tensor(True)
        >>> print('{ratio:.1f} {student_confidence:.2f} {teacher_confidence:.2f}'.format(**loss.terms))
        16.9 0.01 0.17
    """

    def __init__(self, tau: float = 4.0, alpha: float = 1.0, beta: float = 8.0, gamma: float = 1.0,
                 target_form: str = 'ratio', max_ratio: Optional[float] = 2.0, soft_target_topk: int = 2,
                 loss_weight: float = 1.0, reduction: str = 'mean') -> None:
        super().__init__()
        check_settings(tau, alpha, beta, gamma, target_form, max_ratio, soft_target_topk, reduction)
        self.tau = tau
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.target_form = target_form
        self.max_ratio = max_ratio
        self.soft_target_topk = soft_target_topk
        self.loss_weight = check_number('loss_weight', loss_weight, low=0)
        self.reduction = reduction
        self._statistics: Optional[Tensor] = None

    def forward(self, preds_S: Tensor, preds_T: Tensor, gt_labels: Tensor) -> Tensor:
        """The loss; the arguments are named as in MMRazor's losses.

        Args:
            preds_S (Tensor): The student's logits (N, C).
            preds_T (Tensor): The teacher's logits (N, C).
            gt_labels (Tensor): Class indices (N,), or scores (N, C) from mixup, cutmix or label smoothing.
        """
        losses, self._statistics = aekt_per_sample(preds_S, preds_T, gt_labels, self.tau, self.alpha, self.beta,
                                                   self.gamma, self.target_form, self.max_ratio, self.soft_target_topk)
        return self.loss_weight * reduce_losses(losses, self.reduction)

    @property
    def terms(self) -> Dict[str, Tensor]:
        """Batch means of the last forward: ``tckd``, ``nckd`` and ``target`` (without tau**2 and weights), ``ratio``
        (p^T_t / p^S_t, unbounded), and ``student_confidence`` and ``teacher_confidence`` (p_t at ``tau``).

        Detached 0-dim tensors, left on their device; averaged only when asked for. Empty before the first forward.
        """
        if self._statistics is None:
            return {}
        return dict(zip(STATISTICS, self._statistics.mean(1).unbind()))

    def extra_repr(self) -> str:
        names = ('tau', 'alpha', 'beta', 'gamma', 'target_form', 'max_ratio', 'soft_target_topk', 'loss_weight',
                 'reduction')
        return ', '.join(f'{name}={getattr(self, name)!r}' for name in names)
