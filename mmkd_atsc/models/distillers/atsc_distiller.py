"""ATSC's losses: alignment of the student's feature with the teacher's, and the anchor of the teacher."""
from collections.abc import Iterable
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_flag, check_number
from mmkd_atsc.recorders import MultiTeacherRecorder
from mmkd_atsc.registry import MODELS

from ..classifier import Features, last_feature, split_classifier
from ..losses import TeacherAnchorLoss
from ..losses.feature_align_loss import align_features
from .multi_teacher_distiller import LossInputs, MultiTeacherDistiller, with_defaults

# A projector ends in a batch norm, whose variance begins near 1: far smaller features would make its first steps long.
LEAST_VARIANCE = 0.1


@MODELS.register_module()
class ATSCDistiller(MultiTeacherDistiller):
    r"""Adaptive teaching with a shared classifier (ATSC):

    .. math::
        \frac{\beta}{v}\,\mathrm{MSE}(P(E_S(x)), E_T(x)) + \lambda \lVert \theta_{E_T} - \theta^* \rVert^2

    The first term records the student's neck (the projector :math:`P`) and the output of the teacher's encoder; the
    second counts only while the encoder adapts. :class:`AdaptiveTeacherDistill` adds the classifier's cross-entropy.
    The encoder learns from these alone: for a loss that is added it is a target, unless the mapping reads it with
    ``detach=False``. With several teachers each has both terms. Teachers differ in the scale of their features, so the
    alignment is measured in the variance v that they have in the first batch.

    Args:
        align_weight: The weight beta of the alignment.
        normalize: Divide the alignment by v; False, as in the papers, takes v = 1.
        anchor_weight: The weight lambda of the anchor. The papers' is 1 on CIFAR-100, with an alignment of 1.
        anchor_reduction: 'sum' of squares (the authors' code) or their 'mean' (the paper).
        anchor_min_dims: Anchor the parameters of at least so many dimensions: 1 is all of them; 2 (the authors' code)
            leaves biases and norm layers free, and so the teacher to shrink its features to meet the student.
        options: Those of :class:`MultiTeacherDistiller`. They add to the defaults (recorder ``features``, loss and
            mapping ``loss_align``) or replace those of the same name.

    >>> import mmkd_atsc
    >>> distiller = ATSCDistiller(align_weight=2.0)
    >>> distiller.distill_losses['loss_align'].loss_weight
    2.0
    """

    def __init__(self, align_weight: float = 10.0, anchor_weight: float = 10.0, anchor_reduction: str = 'sum',
                 anchor_min_dims: int = 1, normalize: bool = True, **options: Any) -> None:
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
        # A loss of the user's own is as it is written.
        has_own_loss = 'loss_align' in (options.get('distill_losses') or {})
        self.normalize = check_flag('normalize', normalize) and not has_own_loss
        self.variances = FeatureVariances()

    def prepare_from_teachers(self, teachers: dict[str, nn.Module], weights: dict[str, float] | None = None) -> None:
        splits = {name: split_classifier(teacher, role=name) for name, teacher in teachers.items()}
        if self.finds_feature:  # behind the backbone, or behind a neck that belongs to the encoder
            self.teacher_recorders.recorders['features'] = MultiTeacherRecorder(
                {name: split.source for name, split in splits.items()})
        super().prepare_from_teachers(teachers, weights)
        self.variances.bind(teachers if self.normalize else ())
        # Now, while the weights are those of the teachers' checkpoints: a resumed state comes later.
        for name, split in splits.items():
            self.anchors[name] = TeacherAnchorLoss(**self.anchor_options)
            self.anchors[name].bind(split.encoder, self.anchor_min_dims)

    def _loss_inputs(self, loss: str, mapping: dict[str, dict]) -> LossInputs:
        """Of losses beside the alignment a teacher is the target."""
        return super()._loss_inputs(loss, mapping if loss == 'loss_align' else {
            argument: {'detach': not record['from_student'], **record} for argument, record in mapping.items()})

    def run_loss(self, name: str, arguments: dict[str, Any], teacher: str) -> dict[str, Any]:
        losses = super().run_loss(name, arguments, teacher)
        if name == 'loss_align' and self.normalize:
            losses[name] = losses[name] / self.variances(teacher, arguments['preds_S'], arguments['preds_T'])
        return losses

    def loss_share(self, name: str, teacher: str) -> float:
        """1 where the student answers each teacher apart: its projectors weigh those gradients already."""
        answers_each = any(record.get('data_idx') == 'teacher' for record in self.loss_forward_mappings[name].values())
        return 1.0 if answers_each else super().loss_share(name, teacher)

    def anchor_losses(self) -> dict[str, Tensor]:
        """The penalty on each teacher's encoder, for the steps in which it adapts."""
        return {'loss_anchor' if len(self.anchors) == 1 else f'{name}.loss_anchor': anchor()
                for name, anchor in self.anchors.items()}


class FeatureVariances(nn.Module):
    """The variance of each teacher's features over all elements of the first batch, of all processes; 0.1 at least.

    Buffers hold it, so that a resumed run goes on with that of its own first batch; 0 is not yet measured.
    """

    def bind(self, teachers: Iterable[str]) -> None:
        for name in teachers:
            self.register_buffer(f'{name}_features', torch.zeros(()))
        self._known: set[str] = set()

    def forward(self, teacher: str, student_feature: Features, teacher_feature: Features) -> Tensor:
        variance = self.get_buffer(f'{teacher}_features')
        if teacher not in self._known:  # in the first step of a process, which no CUDA graph holds
            self._known.add(teacher)
            if not variance:
                self._measure(variance, student_feature, teacher_feature)
                print_log(f'{teacher}: the alignment is divided by the variance of its features, {variance:.3g}',
                          'current')
        return variance

    @torch.no_grad()
    def _measure(self, variance: Tensor, student_feature: Features, teacher_feature: Features) -> None:
        student, teacher = last_feature(student_feature, 'preds_S'), last_feature(teacher_feature, 'preds_T')
        feature = align_features(student, teacher)[1].double()
        moments = torch.stack([feature.mean(), feature.square().mean()])
        all_reduce(moments, 'mean')
        variance.copy_((moments[1] - moments[0] ** 2).clamp(min=LEAST_VARIANCE))
