"""ATSC's losses: the student's feature meets the teacher's, the teacher stays near where it started."""

from typing import Any

from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.recorders import MultiTeacherRecorder
from mmkd_atsc.registry import MODELS

from ..classifier import split_classifier
from ..losses import TeacherAnchorLoss
from .multi_teacher_distiller import MultiTeacherDistiller


@MODELS.register_module()
class ATSCDistiller(MultiTeacherDistiller):
    r"""Adaptive teaching with a shared classifier, the losses of one teacher:

    .. math::
        \beta\,\mathrm{MSE}(P(E_S(x)), E_T(x)) + \lambda \lVert \theta_{E_T} - \theta^* \rVert^2

    The first term records the student's neck (the projector :math:`P`) and the teacher's encoder (its backbone, or the
    part of its neck that belongs to it); the second is for that encoder and counts only while it adapts. Both are for
    :class:`AdaptiveTeacherDistill`, which adds the classifier's cross-entropy. With several teachers there is one of
    each a teacher. Further losses can be given as in :class:`MultiTeacherDistiller`.

    Args:
        align_weight: The weight beta of the alignment.
        anchor_weight: The weight lambda of the anchor: 1 on CIFAR-100, 10 on ImageNet.
        anchor_reduction: 'sum' of squares (the authors' code) or their 'mean' (the paper).
        anchor_min_dims: Anchor the parameters of at least so many dimensions: 2 (the authors' code) leaves biases and
            norm layers free, 1 holds them too, so that the teacher cannot shrink its features to meet the student.
        student_recorders, teacher_recorders, connectors, distill_losses, loss_forward_mappings, distill_deliveries:
            Entries add to the defaults, or replace those of the same name.

    >>> import mmkd_atsc
    >>> distiller = ATSCDistiller(align_weight=2.0)
    >>> distiller.distill_losses['loss_align'].loss_weight
    2.0
    """

    def __init__(self, align_weight: float = 1.0, anchor_weight: float = 1.0, anchor_reduction: str = 'sum',
                 anchor_min_dims: int = 2, student_recorders: dict | None = None,
                 teacher_recorders: dict | None = None, connectors: dict | None = None,
                 distill_losses: dict | None = None,
                 loss_forward_mappings: dict | None = None, distill_deliveries: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        check_number('align_weight', align_weight, 0)
        check_number('anchor_weight', anchor_weight, 0)
        # Losses that were added may listen to the heads, which alignment alone does not run.
        self_needs_heads = bool(student_recorders), bool(teacher_recorders)
        finds_feature = 'features' not in (teacher_recorders or {})
        super().__init__(
            student_recorders={
                'features': dict(type='mmrazor.ModuleOutputs', source='neck'), **(student_recorders or {})},
            teacher_recorders={
                'features': dict(type='mmrazor.ModuleOutputs', source='backbone'), **(teacher_recorders or {})},
            connectors=connectors,
            distill_losses={'loss_align': dict(type='mmkd_atsc.FeatureAlignLoss', loss_weight=align_weight),
                            **(distill_losses or {})},
            loss_forward_mappings={'loss_align': dict(
                preds_S=dict(from_student=True, recorder='features', data_idx='teacher'),
                preds_T=dict(from_student=False, recorder='features')), **(loss_forward_mappings or {})},
            distill_deliveries=distill_deliveries, init_cfg=init_cfg)
        self.needs_student_head, self.needs_teacher_head = self_needs_heads
        self.finds_feature = finds_feature
        self.anchor_min_dims = check_number('anchor_min_dims', anchor_min_dims, 1, 2, integer=True)
        self.anchor_options: dict[str, Any] = dict(loss_weight=anchor_weight, reduction=anchor_reduction)
        TeacherAnchorLoss(**self.anchor_options)  # says at once what is wrong with them
        self.anchors = nn.ModuleDict()

    def prepare_from_teachers(self, teachers: dict[str, nn.Module], weights: dict[str, float] | None = None) -> None:
        splits = {name: split_classifier(teacher, role=name) for name, teacher in teachers.items()}
        if self.finds_feature:  # behind the backbone, but for networks whose necks belong to the encoder
            self.teacher_recorders.recorders['features'] = MultiTeacherRecorder(
                {name: split.source for name, split in splits.items()})
        super().prepare_from_teachers(teachers, weights)
        # Now, while the weights are those of the teachers' checkpoints: a resumed state comes later.
        for name, split in splits.items():
            self.anchors[name] = TeacherAnchorLoss(**self.anchor_options)
            self.anchors[name].bind(split.encoder, self.anchor_min_dims)

    def loss_share(self, name: str, teacher: str) -> float:
        """Of what the student answers each teacher, its projectors weigh the gradients; see MultiFeatureProjector."""
        answers_each = any(record.get('data_idx') == 'teacher' or isinstance(record.get('data_idx'), dict)
                           or isinstance(record['recorder'], dict)
                           for record in self.loss_forward_mappings[name].values() if record['from_student'])
        return 1 if answers_each else super().loss_share(name, teacher)

    def anchor_losses(self) -> dict[str, Tensor]:
        """How far each teacher's encoder is from where it began; for the steps in which it adapts."""
        return {'loss_anchor' if len(self.anchors) == 1 else f'{name}.loss_anchor': anchor()
                for name, anchor in self.anchors.items()}
