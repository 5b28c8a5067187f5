"""The distance between the projected student feature and the teacher feature."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_choice, check_number
from mmkd_atsc.registry import MODELS

from ..classifier import Features, last_feature


def align_features(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both features in one precision (fp32 or better) and of one size, the larger side averaged down to the smaller."""
    if student.dim() not in (2, 4) or student.shape[:2] != teacher.shape[:2] or student.dim() != teacher.dim():
        raise ValueError('features must both be vectors (N, C) or maps (N, C, H, W), with the same N and C: student '
                         f'{tuple(student.shape)}, teacher {tuple(teacher.shape)}')
    # Squares of fp16 features overflow at 256, and autocast gives such features.
    dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    student, teacher = student.to(dtype), teacher.to(dtype)
    if student.shape[2:] != teacher.shape[2:]:
        size = tuple(min(pair) for pair in zip(student.shape[2:], teacher.shape[2:]))
        student, teacher = F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)
    return student, teacher


@MODELS.register_module()
class FeatureAlignLoss(nn.Module):
    r"""Mean squared error between the projected student feature and the teacher feature.

    .. math::
        L = \frac{1}{N C H W} \lVert P(E_S(x)) - E_T(x) \rVert_2^2

    Neither side is detached: an adapting teacher gets the opposite gradient. Where the maps differ in size, the larger
    is averaged down to the smaller. The loss is computed in fp32 or better, under autocast too.

    Args:
        loss_weight: Factor of the loss, beta in the paper.
        reduction: 'mean' over all elements, or their 'sum'.

    >>> loss = FeatureAlignLoss(loss_weight=3.0)
    >>> loss(torch.ones(2, 4), torch.zeros(2, 4))
    tensor(3.)
    """

    def __init__(self, loss_weight: float = 1.0, reduction: str = 'mean') -> None:
        super().__init__()
        self.loss_weight = check_number('loss_weight', loss_weight, low=0)
        self.reduction = check_choice('reduction', reduction, ('mean', 'sum'))

    def forward(self, preds_S: Features, preds_T: Features) -> Tensor:
        """The loss of the student's and the teacher's feature (of tuples: their last)."""
        student, teacher = align_features(last_feature(preds_S, 'preds_S'), last_feature(preds_T, 'preds_T'))
        return self.loss_weight * F.mse_loss(student, teacher, reduction=self.reduction)
