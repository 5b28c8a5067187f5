"""The distance between what the student projects and what the teacher sees."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_choice, check_number
from mmkd_atsc.registry import MODELS

from ..classifier import Features, last_feature

REDUCTIONS = ('mean', 'sum')


def feature_align_loss(student: Tensor, teacher: Tensor, reduction: str = 'mean') -> Tensor:
    """The squared distance of two features, in single precision at least; see :class:`FeatureAlignLoss`."""
    student, teacher = align_features(student, teacher)
    return F.mse_loss(student, teacher, reduction=reduction)


def align_features(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both features in one precision (fp32 or better) and of one size, the larger side averaged down to the smaller.

    >>> [tuple(f.shape) for f in align_features(torch.zeros(2, 4, 8, 8), torch.zeros(2, 4, 4, 4))]
    [(2, 4, 4, 4), (2, 4, 4, 4)]
    """
    shapes = f'student {tuple(student.shape)}, teacher {tuple(teacher.shape)}'
    if student.dim() != teacher.dim():
        raise ValueError(f'features of different kind: {shapes}; '
                         "the projector's spatial=True gives maps, spatial=False vectors")
    if student.dim() not in (2, 4):
        raise ValueError(f'features must be vectors (N, C) or maps (N, C, H, W): {shapes}')
    if student.shape[0] != teacher.shape[0]:
        raise ValueError(f'features of different batches: {shapes}')
    if student.shape[1] != teacher.shape[1]:
        raise ValueError(f"features of different channels: {shapes}; set the projector's out_channels to "
                         f'{teacher.shape[1]}')
    # Squares of half-precision features overflow at 256, and autocast hands us such features.
    dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    size = tuple(min(pair) for pair in zip(student.shape[2:], teacher.shape[2:]))
    return _resize(student.to(dtype), size), _resize(teacher.to(dtype), size)


def _resize(feature: Tensor, size: tuple[int, ...]) -> Tensor:
    return feature if tuple(feature.shape[2:]) == size else F.adaptive_avg_pool2d(feature, size)


@MODELS.register_module()
class FeatureAlignLoss(nn.Module):
    r"""Mean squared error between the projected student feature and the teacher feature.

    .. math::
        L = \frac{1}{N C H W} \lVert P(E_S(x)) - E_T(x) \rVert_2^2

    Neither side is detached: a teacher that adapts moves towards its student with the opposite gradient; one that runs
    without gradients simply gets none. Where the maps differ in size, the larger is averaged down to the smaller, in
    height and in width. The calculation is in fp32 for half-precision features, whatever autocast says.

    Args:
        loss_weight: Factor of the loss, beta in the paper.
        reduction: 'mean' over all elements, or their 'sum'.

    Examples:
        >>> loss = FeatureAlignLoss(loss_weight=3.0)
        >>> loss(torch.ones(2, 4), torch.zeros(2, 4))
        tensor(3.)
    """

    def __init__(self, loss_weight: float = 1.0, reduction: str = 'mean') -> None:
        super().__init__()
        self.loss_weight = check_number('loss_weight', loss_weight, low=0)
        self.reduction = check_choice('reduction', reduction, REDUCTIONS)

    def forward(self, preds_S: Features, preds_T: Features) -> Tensor:
        """The loss of the student's and the teacher's feature (of tuples: their last)."""
        student, teacher = last_feature(preds_S, 'preds_S'), last_feature(preds_T, 'preds_T')
        return self.loss_weight * feature_align_loss(student, teacher, self.reduction)

    def extra_repr(self) -> str:
        return f'loss_weight={self.loss_weight}, reduction={self.reduction!r}'
