"""ATSC: the teacher keeps learning while it teaches, and the student uses its classifier."""
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmrazor.models.utils import add_prefix
from torch import Tensor, nn

from mmkd_atsc.errors.checks import TrainingStopped, check_choice, check_flag, check_number
from mmkd_atsc.registry import MODELS

from ..binding import bind_student
from ..distillers import ATSCDistiller
from ..teacher import for_each
from ..timm_networks import as_image_classifier
from .multi_teacher_distill import MultiTeacherDistill


@MODELS.register_module()
class AdaptiveTeacherDistill(MultiTeacherDistill):
    r"""Adaptive teaching with a shared classifier (ATSC, arXiv 2406.08528).

    The teacher is an encoder :math:`E_T` and a classifier :math:`C` (everything after it); the student is an encoder
    :math:`E_S`, a projector :math:`P`, and the teacher's :math:`C`. In every step

    (a) :math:`E_S, P, E_T` descend the distiller's
        :math:`\beta\,\mathrm{MSE}(P(E_S(x)), E_T(x)) + \lambda\lVert\theta_{E_T}-\theta^*\rVert^2`;
    (b) :math:`C` descends :math:`\mathrm{CE}(C(E_T(x)), y)` with :math:`E_T` detached.

    The student in the config is the network that is deployed: its neck is a ``FeatureProjector``, its head a
    ``SharedClassifierHead``, which uses the teacher's own modules in training. With ``adaptive=False`` nothing of the
    teacher learns: that is SimKD.

    With several teachers, neck and head have a projector and a classifier for each. Projectors and teachers learn as
    they would alone; the student's encoder descends, with weights that sum to one,
    :math:`\sum_i w_i\,\beta\,\mathrm{MSE}(P_i(E_S(x)), E_{T_i}(x))`.

    Args:
        architecture, teacher, options: As in :class:`MultiTeacherDistill`.
        distiller: An ``mmkd_atsc.ATSCDistiller``; None takes its defaults.
        adaptive: The teacher adapts (within the epochs of an ``AdaptiveTeacherHook``, if there is one).
        classifier_step: 'joint': (a) and (b) from one forward of the teacher, in one optimizer step. 'alternate': (b)
            after (a)'s optimizer step, with a fresh forward of the changed encoder, as in the authors' loop; on one
            process. Both give the same student while no loss reads C and gradients are not clipped.
        student_ce_weight: Weight of a cross-entropy of the student through the shared classifier, from which the
            classifier does not learn. 0, as in the papers: none; the student then needs a long training.
        teacher_lr_mult: The teacher's learning rate, as a multiple of the optimizer's: one number, or a list or dict of
            them for several teachers. The papers' is 1. It needs ``DistillOptimWrapperConstructor``.
    """

    shares_classifier = True
    nonfinite_remedy = 'AdaptiveTeacherDistill: lower the learning rate, teacher_lr_mult or align_weight'

    @classmethod
    def method_name(cls, config: dict) -> str:
        return 'ATSC' if config.get('adaptive', True) else 'SimKD'

    def __init__(self, architecture: dict | str | BaseModel, teacher: Any, distiller: dict | None = None,
                 adaptive: bool = True, classifier_step: str = 'joint', student_ce_weight: float = 1.0,
                 teacher_lr_mult: float | list | dict = 0.1, **options: Any) -> None:
        check_number('student_ce_weight', student_ce_weight, 0)
        super().__init__(architecture, teacher, distiller or dict(type='mmkd_atsc.ATSCDistiller'),
                         calculate_student_loss=student_ce_weight > 0, **options)
        self.adaptive = check_flag('adaptive', adaptive)
        self.classifier_step = check_choice('classifier_step', classifier_step, ('joint', 'alternate'))
        self.has_usual_step = classifier_step == 'joint'  # one forward, one backward, one optimizer step
        self.student_ce_weight = student_ce_weight
        if not isinstance(teacher_lr_mult, (list, tuple, dict)):
            teacher_lr_mult = [teacher_lr_mult] * len(self.teachers)
        multiples = for_each('teacher_lr_mult', list(self.teachers), teacher_lr_mult)
        self.teacher_lr_mults = {name: check_number(f'teacher_lr_mult: {name}', multiple, above=0)
                                 for name, multiple in zip(self.teachers, multiples)}
        self.set_adapting(adaptive)

    def param_group_options(self) -> Iterator[tuple[nn.Parameter, dict]]:
        """Requests the teachers' own learning rates."""
        for name, multiple in self.teacher_lr_mults.items():
            for parameter in self.teachers[name].parameters() if multiple != 1 else ():
                yield parameter, dict(lr_mult=multiple)

    def prepare_distiller(self) -> None:
        if not isinstance(self.distiller, ATSCDistiller):
            raise TypeError(f'AdaptiveTeacherDistill needs an ATSCDistiller, not a {type(self.distiller).__name__}')
        for name, teacher in self.teachers.items():
            teacher.model = as_image_classifier(teacher.model, name)
        teachers = {name: teacher.split for name, teacher in self.teachers.items()}
        bind_student(self.student, teachers, self.teacher_weights)  # it makes the branches that recorders may name
        super().prepare_distiller()
        if getattr(self.data_preprocessor, 'to_onehot', False) and not self.data_preprocessor.num_classes:
            # Mixup and CutMix ask the student's head, which does not know it.
            self.data_preprocessor.num_classes = self.first_teacher.num_classes

    @property
    def adapting(self) -> bool:
        """Whether the teachers learn now."""
        return self.first_teacher.adapting

    def set_adapting(self, adapting: bool) -> None:
        """Lets the teachers learn, or freezes them as they are; for ``AdaptiveTeacherHook``, between two steps."""
        if adapting and not self.adaptive:
            raise ValueError('the teacher was built with adaptive=False and is not in the optimizer')
        for teacher in self.teachers.values():
            teacher.adapt(adapting)
        self.train(self.training)

    def loss(self, inputs: Tensor, data_samples: list | None = None) -> dict[str, Tensor]:
        """(a) and, where the teacher adapts, (b): one forward of each network."""
        self.check_step()
        features = {}
        for name, teacher in self.teachers.items():
            with self.recording_teacher(name):
                features[name] = teacher.encode(inputs)
                if self.distiller.needs_teacher_head:  # targets only: neither side learns from them
                    with torch.no_grad():
                        teacher.split.classifier.run_detached(features[name])
        losses = {}
        with self.recording_student():
            student_features = self.student.extract_feat(inputs)
            if self.distiller.needs_student_head:  # its loss runs the teacher's head, which is not recorded here
                self.student.head(student_features)
            if self.calculate_student_loss:
                losses = self.student.head.loss(student_features, data_samples)
        losses = {f'student.{key}': value * self.student_ce_weight if 'loss' in key else value
                  for key, value in losses.items()}
        losses.update(self.distill_losses(data_samples))
        if self.adapting and not self.distillation_stopped:
            losses.update(add_prefix(self.distiller.anchor_losses(), 'distill'))
        if self.adapting and self.classifier_step == 'joint':
            losses.update(self.classifier_losses(features, data_samples))
        return losses

    def check_step(self) -> None:
        """Refuses a step in which the student would learn nothing, or without the weights to anchor a teacher to."""
        if self.distillation_stopped and not self.calculate_student_loss:
            raise TrainingStopped('StopDistillHook leaves the student of AdaptiveTeacherDistill nothing to learn from: '
                                  'set student_ce_weight, or take the hook out')
        for name, teacher in self.teachers.items():
            if self.adapting and teacher.start_is_unknown:
                raise ValueError(f'the checkpoint that was loaded began with a {name} that is not given: there is '
                                 'nothing to anchor it to; set teacher_ckpt')
        if self.classifier_step == 'alternate' and self.training and get_world_size() > 1:  # DDP calls no train_step
            raise ValueError("classifier_step='alternate' trains on one process only; 'joint' gives the same student")

    def classifier_losses(self, features: dict[str, Any], data_samples: list | None) -> dict[str, Tensor]:
        """Part (b): each classifier's loss on its teacher's features, without a gradient for them."""
        return {f'{name}.{key}': value for name, teacher in self.teachers.items()
                for key, value in teacher.classifier_loss(features[name], data_samples).items()}

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One optimizer step; with ``classifier_step='alternate'`` two, (b)'s after (a)'s."""
        if self.classifier_step == 'joint' or not self.adapting:
            return super().train_step(data, optim_wrapper)
        if optim_wrapper._accumulative_counts > 1:
            raise ValueError("classifier_step='alternate' does not go with accumulative_counts; use 'joint'")
        with optim_wrapper.optim_context(self):
            data = self.data_preprocessor(data, True)
            losses = self._run_forward(data, mode='loss')
        total, log = self.parse_losses(losses)
        optim_wrapper.update_params(total)
        with optim_wrapper.optim_context(self):
            with torch.no_grad():
                features = {name: teacher.encode(data['inputs'], keep_statistics=True)  # (a) counted this batch
                            for name, teacher in self.teachers.items()}
            classifier_losses = self.classifier_losses(features, data['data_samples'])
        total, classifier_log = self.parse_losses(classifier_losses)
        optim_wrapper.update_params(total)
        return {**log, **classifier_log, 'loss': log['loss'] + classifier_log['loss']}

