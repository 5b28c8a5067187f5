"""AEKT in one line of a config."""
from inspect import signature
from typing import Any

import torch
from mmpretrain.models.heads import ConformerHead, DeiTClsHead, MultiLabelClsHead
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_flag, check_number, nearest
from mmkd_atsc.recorders.logits import count_classes
from mmkd_atsc.registry import MODELS

from ..classifier import is_distilled
from ..connectors import SerializationFC
from ..losses import AEKTLoss
from .multi_teacher_distiller import MultiTeacherDistiller, with_defaults


@MODELS.register_module()
class AEKTDistiller(MultiTeacherDistiller):
    r"""Adaptive explicit knowledge transfer for any MMPretrain classifier.

    The logits of both heads are recorded. The student's pass the serialization layer and enter :class:`AEKTLoss` with
    the teacher's and the labels of the student's own loss (soft ones with mixup and CutMix). The student's
    cross-entropy is on the logits before that layer.

    Args:
        num_classes: Classes of student and teacher; other heads are refused. None: that of their heads,
            or of the outputs of a teacher's last layer.
        with_fc: Use the serialization layer. False is AEKT's loss on the student's logits themselves.
        fc_init: 'identity', or 'default' for PyTorch's random one.
        fc_bias: Give it a bias.
        fc_lr_mult: Its learning rate, as a multiple of the optimizer's; 0 freezes it.
        fc_weight_decay: Its weight decay.
        log_terms: Log the loss's terms, the confidences and the accuracies before and after the layer.
        teacher: Which of several teachers the loss reads, or how it combines them; see :class:`MultiTeacherDistiller`.
        options: Those of :class:`AEKTLoss` (tau, alpha, beta, ...), and those of :class:`MultiTeacherDistiller`, which
            add to the defaults (recorders ``logits`` and ``labels``, connector ``fc``, loss and mapping ``loss_aekt``)
            or replace those of the same name.

    >>> import mmkd_atsc
    >>> distiller = AEKTDistiller(num_classes=10, beta=2.0)  # a config needs no num_classes
    >>> distiller.distill_losses['loss_aekt'].beta, distiller.connectors['fc'].fc.weight.shape
    (2.0, torch.Size([10, 10]))
    """

    compares_logits = True

    @classmethod
    def method_name(cls, config: dict) -> str | None:
        """That of its loss; None where the config gives another loss, which has a name of its own."""
        replaced = 'loss_aekt' in (config.get('distill_losses') or {})
        return None if replaced else AEKTLoss.method_name(config)

    def __init__(self, num_classes: int | None = None, with_fc: bool = True, fc_init: str = 'identity',
                 fc_bias: bool = True, fc_lr_mult: float = 0.01, fc_weight_decay: float = 0.0, log_terms: bool = True,
                 teacher: str | int = 'all', **options: Any) -> None:
        shared, of_loss, own = (signature(kind).parameters for kind in (MultiTeacherDistiller, AEKTLoss, AEKTDistiller))
        given = {name: options.pop(name) or {} for name in options.keys() & shared.keys()}
        for name in options.keys() - of_loss.keys():
            raise TypeError(f'AEKTDistiller has no option {name!r}{nearest(name, (*of_loss, *own, *shared))}')
        if options and 'loss_aekt' in given.get('distill_losses', {}):
            raise ValueError(f'{", ".join(options)} would be lost: distill_losses gives loss_aekt of its own, set it '
                             'there')
        check_number('num_classes', num_classes, 2, integer=True, optional=True)
        # The prefixes let it be built whatever the default scope is. A head is called by name in training and in
        # inference alike, whatever layers it has inside.
        logits = dict(type='mmrazor.ModuleOutputs', source='head')
        student_logits, fc = dict(from_student=True, recorder='logits'), {}
        if check_flag('with_fc', with_fc):
            student_logits['connector'] = 'fc'
            fc = dict(fc=dict(type='mmkd_atsc.SerializationFC', num_classes=num_classes, bias=fc_bias, init=fc_init,
                              lr_mult=fc_lr_mult, weight_decay=fc_weight_decay))
        super().__init__(**with_defaults(
            given,
            student_recorders=dict(logits=logits, labels=dict(type='mmrazor.ModuleInputs', source='head.loss_module')),
            teacher_recorders=dict(logits=logits), connectors=fc,
            distill_losses=dict(loss_aekt=dict(type='mmkd_atsc.AEKTLoss', **options)),
            loss_forward_mappings=dict(loss_aekt=dict(
                preds_S=student_logits, preds_T=dict(from_student=False, recorder='logits', teacher=teacher),
                gt_labels=dict(from_student=True, recorder='labels', data_idx=1)))))
        if with_fc and not any(record.get('connector') == 'fc' for mapping in self.loss_forward_mappings.values()
                               for record in mapping.values()):
            # Distributed training would stop at parameters that no loss reaches.
            raise ValueError("with_fc=True, but no loss_forward_mappings entry has connector='fc'; set with_fc=False")
        self.num_classes = num_classes
        self.reads_heads = 'loss_aekt' not in given.get('loss_forward_mappings', {}) and not any(
            'logits' in given.get(recorders, {}) for recorders in ('student_recorders', 'teacher_recorders'))
        self.log_terms = check_flag('log_terms', log_terms)

    @property
    def fc(self) -> SerializationFC | None:
        """The serialization layer, if there is one."""
        return self.connectors['fc'] if 'fc' in self.connectors else None

    def prepare_from_student(self, model: nn.Module) -> None:
        self._check_head(model, 'student')
        super().prepare_from_student(model)

    def prepare_from_teachers(self, teachers: dict[str, nn.Module], weights: dict[str, float] | None = None) -> None:
        for name, model in teachers.items():
            self._check_head(model, name)
        super().prepare_from_teachers(teachers, weights)

    def _check_head(self, model: nn.Module, role: str) -> None:
        """Refuses heads that give no single tensor of logits, that MMPretrain does not train, or of other classes."""
        head = getattr(model, 'head', None)
        name, refused = type(head).__name__, ''
        if isinstance(head, MultiLabelClsHead):
            refused = f'{name} gives several labels an image, AEKT needs a head of one label'
        elif self.reads_heads and isinstance(head, ConformerHead):
            refused = (f'{name} gives the logits of two branches apart, one tensor is needed; choose a branch by '
                       'data_idx in loss_forward_mappings')
        elif self.reads_heads and role == 'student' and is_distilled(head) and not isinstance(head, DeiTClsHead):
            refused = f'MMPretrain does not train {name} with its distillation branch, set distillation=False'
        if refused:
            raise ValueError(f'{role}: {refused}')
        classes = count_classes(model) or self.num_classes
        if self.num_classes not in (None, classes):
            raise ValueError(f"AEKTDistiller has num_classes={self.num_classes}, the {role}'s head has {classes}")
        self.num_classes = classes

    def run_loss(self, name: str, arguments: dict[str, Any], teacher: str) -> dict[str, Any]:
        losses = super().run_loss(name, arguments, teacher)
        if name == 'loss_aekt' and self.log_terms:
            # No name holds 'loss', so MMEngine adds none of them to the total.
            losses.update(getattr(self.distill_losses[name], 'terms', {}))
        return losses

    def log_arguments(self, name: str, arguments: dict[str, Any]) -> dict[str, Tensor]:
        """The student's accuracy before and after the layer, in this batch."""
        if name != 'loss_aekt' or not self.log_terms or not {'preds_S', 'gt_labels'} <= arguments.keys():
            return {}
        record, labels = self.loss_inputs[name].shared['preds_S'], arguments['gt_labels']
        logits = dict(accuracy_before_fc=self.get_record(**{**record, 'connector': None}))
        if record.get('connector') == 'fc':
            logits['accuracy_after_fc'] = arguments['preds_S']
        labels = labels if labels.dim() == 1 else labels.argmax(1)
        answers = torch.stack([value.detach().argmax(1) for value in logits.values()])
        return dict(zip(logits, (100 * (answers == labels).float().mean(1)).unbind()))

