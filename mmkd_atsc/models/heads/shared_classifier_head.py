"""A student's head that uses its teachers' classifiers in training, and owns copies of them when deployed."""
import copy
from typing import Any

import torch
from mmengine.model import ModuleDict
from mmpretrain.models.heads import ClsHead
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_choice, check_flag, check_number
from mmkd_atsc.registry import MODELS

from ..aggregate import AGGREGATES, aggregate_logits
from ..classifier import Classifier, SplitNetwork, check_shareable, last_feature, split_neck
from ..connectors.feature_projector import scale_gradient


# MultiClassifierHead is its name in older configs and exported students of several teachers.
@MODELS.register_module(name=['SharedClassifierHead', 'MultiClassifierHead'])
class SharedClassifierHead(ClsHead):
    """The classifier (neck and head) of a teacher, or of each of several, as the head of a student.

    The logits are the teacher's for the projected student feature, and ``loss`` and ``predict`` are those of the
    teacher's head. Of several teachers each classifies its own feature; :func:`aggregate_logits` combines the logits.

    Without a classifier of its own, for training, the head is bound to its teachers, which own, optimize and save the
    modules. With one, which :meth:`release` copies, it is the head of a deployed network.

    Args:
        classifier: ``dict(neck=<config or None>, head=<config>)`` to own one classifier.
        detach: The student's loss gives no gradient to a shared classifier, which learns from the teacher's features
            alone. An owned one always learns.
        aggregate: 'mean_prob', 'mean_logit', 'vote', or 'confidence' (a branch counts by its own largest probability).
        weights: How much each classifier counts, by the teachers' names. None: alike.
        classifiers: A dict like ``classifier`` for each of several names, to own them.

    Examples:
        >>> owned = dict(head=dict(type='LinearClsHead', num_classes=5, in_channels=8))
        >>> list(SharedClassifierHead(owned).state_dict())
        ['classifier.head.fc.weight', 'classifier.head.fc.bias']
        >>> head = SharedClassifierHead(classifiers=dict(wide=owned, deep=owned))
        >>> head((torch.ones(2, 8), torch.ones(2, 8))).shape
        torch.Size([2, 5])
    """

    @staticmethod
    def own_config(config: dict, classifiers: dict[str, dict]) -> dict:
        """The config of an exported student's head, which owns copies of the teachers' classifiers."""
        if len(classifiers) > 1:
            return dict(config, classifiers=classifiers)
        return dict(config, classifier=next(iter(classifiers.values())))

    def __init__(self, classifier: dict | None = None, detach: bool = True, aggregate: str = 'mean_prob',
                 weights: dict[str, float] | None = None, classifiers: dict[str, dict] | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(loss=dict(type='mmpretrain.CrossEntropyLoss'), init_cfg=init_cfg)  # with scope: built anywhere
        del self.loss_module  # the loss is the classifier's own
        self.detach = check_flag('detach', detach)
        self.aggregate = check_choice('aggregate', aggregate, AGGREGATES)
        self.weights = {name: check_number(f'weights: {name}', weight, above=0)
                        for name, weight in (weights or {}).items()}
        self.owns = classifier is not None or classifiers is not None
        self.teacher_grad_scales: dict[str, float] = {}
        # By name. A dict hides shared modules from PyTorch's bookkeeping, yet deepcopy and pickle still follow it.
        self.classifiers: dict[str, Classifier] = {}
        if classifiers is not None:
            self._use({name: build_classifier(**config) for name, config in classifiers.items()})
            self.branches = ModuleDict({name: ModuleDict({'classifier': owned})
                                        for name, owned in self.classifiers.items()})
        elif classifier is not None:
            self.classifier = build_classifier(**classifier)
            self._use({'classifier': self.classifier})

    def _use(self, classifiers: dict[str, Classifier]) -> None:
        if self.weights and len(classifiers) > 1 and set(self.weights) != set(classifiers):
            raise ValueError(f'weights are for {", ".join(self.weights)}, the classifiers are {", ".join(classifiers)}')
        self.classifiers = classifiers

    def bind_teachers(self, teachers: dict[str, SplitNetwork],
                      teacher_grad_scales: dict[str, float] | None = None) -> None:
        """Uses the classifiers of one teacher or several, in place of those of an earlier call.

        The gradient of a loss on the common logits is divided by ``teacher_grad_scales``, by which the projectors
        multiply it, so that the student's encoder gets it unscaled.
        """
        if self.owns:
            raise RuntimeError('this SharedClassifierHead owns its classifiers: only one built without can be bound to '
                               'teachers')
        for name, split in teachers.items() if len(teachers) > 1 else ():
            if not isinstance(split.classifier.head, ClsHead):
                raise TypeError(f'{name}: the logits of a {type(split.classifier.head).__name__} cannot be combined '
                                'with others, a ClsHead is needed')
        self.teacher_grad_scales = dict(teacher_grad_scales or {})
        self._use({name: split.classifier for name, split in teachers.items()})

    @property
    def num_classes(self) -> int | None:
        """The number of classes, None as long as no teacher is bound."""
        return next((getattr(one.head, 'num_classes', None) for one in self.classifiers.values()), None)

    def _run(self, feats: tuple[Tensor, ...], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What each classifier gives for its feature, by name."""
        if not self.classifiers:
            raise RuntimeError('SharedClassifierHead has no classifier yet: AdaptiveTeacherDistill binds it to its '
                               'teachers; elsewhere give classifier=dict(neck=..., head=...)')
        detached = self.detach and not self.owns and torch.is_grad_enabled()
        return {name: (one.run_detached if detached else one)(feature, *args, **kwargs) for (name, one), feature in
                zip(self.classifiers.items(), feats if len(self.classifiers) > 1 else [feats], strict=True)}

    def pre_logits(self, feats: tuple[Tensor, ...]) -> Tensor:
        """The input of the classifier's last layer, by its own definition; of several classifiers side by side."""
        return torch.cat([last_feature((output, ), 'pre_logits')
                          for output in self._run(feats, method='pre_logits').values()], dim=1)

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """The logits of the projected features, of several classifiers together."""
        if len(self.classifiers) > 1:
            scales = [self.teacher_grad_scales.get(name, 1.0) for name in self.classifiers]
            feats = tuple(scale_gradient(feature, 1 / scale) for feature, scale in zip(feats, scales, strict=True))
        logits = self._run(feats)
        weights = [self.weights[name] for name in logits] if self.weights and len(logits) > 1 else None
        first, *others = logits.values()
        return aggregate_logits([first, *others], self.aggregate, weights) if others else first

    def loss(self, feats: tuple[Tensor, ...], data_samples: list, **kwargs: Any) -> dict:
        """The losses of each classifier's own head for the projected features."""
        losses = self._run(feats, data_samples, method='loss', **kwargs)
        return {f'{name}.{key}' if len(losses) > 1 else key: value
                for name, own in losses.items() for key, value in own.items()}

    def predict(self, feats: tuple[Tensor, ...], data_samples: list | None = None, **kwargs: Any) -> list:
        """The predictions of the classifier's own head, or of MMPretrain's ``ClsHead`` by the logits of several."""
        if len(self.classifiers) > 1:
            return super().predict(feats, data_samples, **kwargs)
        return next(iter(self._run(feats, data_samples, method='predict', **kwargs).values()))

    def release(self) -> 'SharedClassifierHead':
        """A new head that owns copies of the classifiers."""
        copies = {name: dict(neck=one.neck, head=one.head) for name, one in copy.deepcopy(self.classifiers).items()}
        config = self.own_config(dict(detach=self.detach, aggregate=self.aggregate, weights=self.weights), copies)
        return type(self)(**config)


def build_classifier(head: dict | nn.Module, neck: dict | list | nn.Module | None = None) -> Classifier:
    """Builds a head and a neck, whose parts that belong to the encoder are left out."""
    neck, head = (MMPRETRAIN_MODELS.build(part) if isinstance(part, (dict, list)) else part for part in (neck, head))
    _, neck = split_neck(neck)
    check_shareable(neck, head, role='classifier')
    return Classifier(neck, head)
