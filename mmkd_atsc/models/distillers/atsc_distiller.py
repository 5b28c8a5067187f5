"""ATSC's losses: alignment of the student's feature with the teacher's, and the anchor of the teacher."""
from typing import Any

from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.recorders import MultiTeacherRecorder
from mmkd_atsc.registry import MODELS

from ..classifier import split_classifier
from ..losses import TeacherAnchorLoss
from .multi_teacher_distiller import MultiTeacherDistiller, with_defaults


@MODELS.register_module()
class ATSCDistiller(MultiTeacherDistiller):
    r"""Adaptive teaching with a shared classifier (ATSC):

    .. math::
        \beta\,\mathrm{MSE}(P(E_S(x)), E_T(x)) + \lambda \lVert \theta_{E_T} - \theta^* \rVert^2

    The first term records the student's neck (the projector :math:`P`) and the output of the teacher's encoder; the
    second counts only while the encoder adapts. :class:`AdaptiveTeacherDistill` adds the classifier's cross-entropy.
    With several teachers each has both terms.

    Args:
        align_weight: The weight beta of the alignment.
        anchor_weight: The weight lambda of the anchor: 1 on CIFAR-100, 10 on ImageNet.
        anchor_reduction: 'sum' of squares (the authors' code) or their 'mean' (the paper).
        anchor_min_dims: Anchor the parameters of at least so many dimensions: 2 (the authors' code) leaves biases and
            norm layers free, 1 holds them too, so that the teacher cannot shrink its features to meet the student.
        options: Those of :class:`MultiTeacherDistiller`. They add to the defaults (recorder ``features``, loss and
            mapping ``loss_align``) or replace those of the same name.

    >>> import mmkd_atsc
    >>> distiller = ATSCDistiller(align_weight=2.0)
    >>> distiller.distill_losses['loss_align'].loss_weight
    2.0
    """

    def __init__(self, align_weight: float = 1.0, anchor_weight: float = 1.0, anchor_reduction: str = 'sum',
                 anchor_min_dims: int = 2, **options: Any) -> None:
        check_number('align_weight', align_weight, 0)
        check_number('anchor_weight', anchor_weight, 0)
        super().__init__(**with_defaults(
            options,
            student_recorders=dict(features=dict(type='mmrazor.ModuleOutputs', source='neck')),
            teacher_recorders=dict(features=dict(type='mmrazor.ModuleOutputs', source='backbone')),
            distill_losses=dict(loss_align=dict(type='mmkd_atsc.FeatureAlignLoss', loss_weight=align_weight)),
            loss_forward_mappings=dict(loss_align=dict(
                preds_S=dict(from_student=True, recorder='features', data_idx='teacher'),
                preds_T=dict(from_student=False, recorder='features')))))
        # Losses that were added may record the heads, which alignment alone does not run.
        self.needs_student_head = bool(options.get('student_recorders'))
        self.needs_teacher_head = bool(options.get('teacher_recorders'))
        self.finds_feature = 'features' not in (options.get('teacher_recorders') or {})
        self.anchor_min_dims = check_number('anchor_min_dims', anchor_min_dims, 1, 2, integer=True)
        self.anchor_options: dict[str, Any] = dict(loss_weight=anchor_weight, reduction=anchor_reduction)
        self.anchors = nn.ModuleDict()

    def prepare_from_teachers(self, teachers: dict[str, nn.Module], weights: dict[str, float] | None = None) -> None:
        splits = {name: split_classifier(teacher, role=name) for name, teacher in teachers.items()}
        if self.finds_feature:  # behind the backbone, or behind a neck that belongs to the encoder
            self.teacher_recorders.recorders['features'] = MultiTeacherRecorder(
                {name: split.source for name, split in splits.items()})
        super().prepare_from_teachers(teachers, weights)
        # Now, while the weights are those of the teachers' checkpoints: a resumed state comes later.
        for name, split in splits.items():
            self.anchors[name] = TeacherAnchorLoss(**self.anchor_options)
            self.anchors[name].bind(split.encoder, self.anchor_min_dims)

    def loss_share(self, name: str, teacher: str) -> float:
        """1 where the student answers each teacher apart: its projectors weigh those gradients already."""
        answers_each = any(record.get('data_idx') == 'teacher' for record in self.loss_forward_mappings[name].values())
        return 1.0 if answers_each else super().loss_share(name, teacher)

    def anchor_losses(self) -> dict[str, Tensor]:
        """The penalty on each teacher's encoder, for the steps in which it adapts."""
        return {'loss_anchor' if len(self.anchors) == 1 else f'{name}.loss_anchor': anchor()
                for name, anchor in self.anchors.items()}
