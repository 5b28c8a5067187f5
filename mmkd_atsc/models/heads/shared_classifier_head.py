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
from ..classifier import Classifier, Features, SplitNetwork, check_shareable, last_feature, split_neck
from ..connectors.feature_projector import scale_gradient


@MODELS.register_module()
class SharedClassifierHead(ClsHead):
    """The classifier (neck and head) of a teacher, or of each of several, as the head of a student.

    The logits are the teacher's for the projected student feature, and ``loss`` and ``predict`` are those of the
    teacher's head. Several teachers have a branch each, whose logits :func:`aggregate_logits` combines. The head has
    two forms:

    - *shared* (no classifier is given), for training: the algorithm binds it to its teachers. The modules are used but
      not registered here: the teacher owns, moves, optimizes and saves them. A copy of the whole algorithm uses the
      copied teacher; a copy of the student alone holds a classifier that does not move with it.
    - *owned*, the deployed network: an ordinary head with its own weights, which :meth:`release` makes of a shared one.

    Args:
        classifier: ``dict(neck=<config or None>, head=<config>)`` to own one classifier.
        detach: The student's loss gives no gradient to a shared classifier, which learns from the teacher's features
            alone. An owned one always learns.
        aggregate: 'mean_prob', 'mean_logit', 'vote', or 'confidence' (a branch counts by its own largest probability).
        weights: How much each branch counts, by the teachers' names. None: alike.
        classifiers: A dict like ``classifier`` for each of several names, to own them.
        init_cfg: As in every MMEngine module.

    Examples:
        >>> owned = dict(head=dict(type='LinearClsHead', num_classes=5, in_channels=8))
        >>> list(SharedClassifierHead(owned).state_dict())
        ['classifier.head.fc.weight', 'classifier.head.fc.bias']
        >>> head = SharedClassifierHead(classifiers=dict(wide=owned, deep=owned))
        >>> head((torch.ones(2, 8), torch.ones(2, 8))).shape, list(head.branches)
        (torch.Size([2, 5]), ['wide', 'deep'])
    """

    @staticmethod
    def own_config(config: dict, classifiers: dict[str, dict]) -> dict:
        """The config of an exported student's head, which owns copies of the teachers' classifiers."""
        if len(classifiers) > 1:
            return dict(config, classifiers=classifiers)
        return dict(config, classifier=next(iter(classifiers.values())))

    @staticmethod
    def owned_classifiers(config: dict) -> dict | None:
        """The classifier that a config gives the head as its own, or several by name; None for a shared one."""
        return config.get('classifier') or config.get('classifiers')

    def __init__(self, classifier: dict | None = None, detach: bool = True, aggregate: str = 'mean_prob',
                 weights: dict[str, float] | None = None, classifiers: dict[str, dict] | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(loss=dict(type='mmpretrain.CrossEntropyLoss'), init_cfg=init_cfg)  # with scope: built anywhere
        del self.loss_module  # the loss is the classifier's own
        self.detach = check_flag('detach', detach)
        self.aggregate = check_choice('aggregate', aggregate, AGGREGATES)
        for name, weight in (weights or {}).items():
            check_number(f'weights: {name}', weight, above=0)
        self.weights = weights
        self.owns = classifier is not None or classifiers is not None
        self.classifier = None if classifier is None else build_classifier(**classifier)
        # A tuple hides the shared modules from torch's bookkeeping, yet deepcopy and pickle still follow it.
        self._shared: tuple[Classifier, ...] = ()
        self.branches: ModuleDict | None = None
        self.teacher_grad_scales: dict[str, float] = {}
        if classifiers is not None:
            self._set_branches({name: SharedClassifierHead(part, detach) for name, part in classifiers.items()})

    def _set_branches(self, branches: dict[str, 'SharedClassifierHead']) -> None:
        if self.weights is not None and set(self.weights) != set(branches):
            raise ValueError(f'weights are for {", ".join(self.weights)}, the classifiers are {", ".join(branches)}')
        self.branches = ModuleDict(branches)

    def bind_teachers(self, teachers: dict[str, SplitNetwork],
                      teacher_grad_scales: dict[str, float] | None = None) -> None:
        """Shares the classifiers of one teacher or several; called again, it shares those of others.

        Args:
            teachers: The networks that the classifiers belong to.
            teacher_grad_scales: Each projector's factor on its gradient to the student's encoder. The gradient of a
                loss on the common logits is divided by it, so that the encoder gets this gradient unscaled.
        """
        if self.owns:
            raise RuntimeError(f'this {type(self).__name__} owns its classifiers: only one built without can be bound '
                               'to teachers')
        if len(teachers) == 1:
            self._shared = tuple(Classifier(split.neck, split.head) for split in teachers.values())
            return
        branches = {}
        for name, split in teachers.items():
            if not isinstance(split.head, ClsHead):
                raise TypeError(f'{name}: the logits of a {type(split.head).__name__} cannot be combined with others, '
                                'a ClsHead is needed')
            branches[name] = SharedClassifierHead(detach=self.detach)
            branches[name].bind_teachers({name: split})
        self.teacher_grad_scales = dict(teacher_grad_scales or {})
        self._set_branches(branches)

    @property
    def bound_classifier(self) -> Classifier:
        """The classifier in use, shared or owned; of several the first."""
        if self.branches is not None:
            return next(iter(self.branches.values())).bound_classifier
        if self.classifier is None and not self._shared:
            raise RuntimeError(f'{type(self).__name__} has no classifier yet: AdaptiveTeacherDistill binds it to its '
                               'teachers; elsewhere give classifier=dict(neck=..., head=...)')
        return self.classifier or self._shared[0]

    @property
    def num_classes(self) -> int | None:
        """The number of classes, None as long as no teacher is bound."""
        is_bound = self.owns or self._shared or self.branches
        return getattr(self.bound_classifier.head, 'num_classes', None) if is_bound else None

    def _run(self, features: Features, *args: Any, **kwargs: Any) -> Any:
        classifier = self.bound_classifier
        if self.detach and self.classifier is None and torch.is_grad_enabled():
            return classifier.run_detached(features, *args, **kwargs)
        return classifier(features, *args, **kwargs)

    def _each(self, feats: tuple[Tensor, ...]) -> list[tuple[str, 'SharedClassifierHead', tuple[Tensor]]]:
        """The branches by name, each with its feature."""
        branches = (self.branches or {}).items()
        return [(name, branch, (feature, )) for (name, branch), feature in zip(branches, feats, strict=True)]

    def pre_logits(self, feats: tuple[Tensor, ...]) -> Tensor:
        """The input of the classifier's last layer, by its own definition; of several classifiers side by side."""
        if self.branches is not None:
            return torch.cat([branch.pre_logits(feature) for _, branch, feature in self._each(feats)], dim=1)
        return last_feature((self._run(feats, method='pre_logits'), ), 'pre_logits')

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """The logits of the projected features, of several branches together."""
        if self.branches is None:
            return self._run(feats)
        logits = [branch((scale_gradient(feature, 1 / self.teacher_grad_scales.get(name, 1.0)), ))
                  for name, branch, (feature, ) in self._each(feats)]
        weights = [self.weights[name] for name in self.branches] if self.weights else None
        return aggregate_logits(logits, self.aggregate, weights)

    def loss(self, feats: tuple[Tensor, ...], data_samples: list, **kwargs: Any) -> dict:
        """The losses of each classifier's own head for the projected features."""
        if self.branches is None:
            return self._run(feats, data_samples, method='loss', **kwargs)
        return {f'{name}.{key}': value for name, branch, feature in self._each(feats)
                for key, value in branch.loss(feature, data_samples, **kwargs).items()}

    def predict(self, feats: tuple[Tensor, ...], data_samples: list | None = None, **kwargs: Any) -> list:
        """The predictions of the classifier's own head, or of MMPretrain's ``ClsHead`` by the logits of several."""
        if self.branches is None:
            return self._run(feats, data_samples, method='predict', **kwargs)
        return super().predict(feats, data_samples, **kwargs)

    def release(self) -> 'SharedClassifierHead':
        """A new head that owns copies of the classifiers."""
        options: dict[str, Any] = dict(detach=self.detach, aggregate=self.aggregate, weights=self.weights)
        if self.branches is None:
            return type(self)(_copy(self.bound_classifier), **options)
        return type(self)(classifiers={name: _copy(branch.bound_classifier) for name, branch in self.branches.items()},
                          **options)


@MODELS.register_module()
class MultiClassifierHead(SharedClassifierHead):
    """:class:`SharedClassifierHead` by the name that older configs and exported students use for several teachers."""


def build_classifier(head: dict | nn.Module, neck: dict | list | nn.Module | None = None) -> Classifier:
    """Builds a head and a neck, whose parts that belong to the encoder are left out."""
    neck, head = (MMPRETRAIN_MODELS.build(part) if isinstance(part, (dict, list)) else part for part in (neck, head))
    _, neck = split_neck(neck)
    check_shareable(neck, head, role='classifier')
    return Classifier(neck, head)


def _copy(classifier: Classifier) -> dict:
    neck, head = copy.deepcopy((classifier.neck, classifier.head))
    return dict(neck=neck, head=head)
