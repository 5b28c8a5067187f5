"""The head of a student with several teachers: the classifier of each, and one answer of all."""
from typing import Any, Dict, List, Optional, Tuple

import torch
from mmengine.model import ModuleDict
from mmpretrain.models.heads import ClsHead
from torch import Tensor

from mmkd_atsc.errors.checks import check_choice, check_flag, check_number
from mmkd_atsc.registry import MODELS

from ..aggregate import AGGREGATES, aggregate_logits
from ..classifier import SplitNetwork
from ..connectors.multi_feature_projector import scale_gradient
from .shared_classifier_head import SharedClassifierHead


@MODELS.register_module()
class MultiClassifierHead(ClsHead):
    """One :class:`SharedClassifierHead` a teacher, on the features of a :class:`MultiFeatureProjector`.

    The logits are those that :func:`aggregate_logits` makes of the branches', so that their softmax is the answer of
    all. Like its branches it has two forms: *shared*, which the algorithm binds to the teachers, and *owned*, the
    deployed network, which :meth:`release` makes of it.

    Args:
        aggregate: 'mean_prob', 'mean_logit', 'vote', or 'confidence' (a branch counts by its own largest probability).
        weights: How much each branch counts, by the teachers' names. None: alike.
        classifiers: ``dict(neck=<config or None>, head=<config>)`` for each name to own them, None to share.
        detach: The student's loss gives no gradient to the shared classifiers.
        init_cfg: As in every MMEngine module.

    >>> owned = dict(head=dict(type='LinearClsHead', num_classes=5, in_channels=8))
    >>> head = MultiClassifierHead(classifiers=dict(wide=owned, deep=owned))
    >>> head((torch.ones(2, 8), torch.ones(2, 8))).shape, list(head.branches)
    (torch.Size([2, 5]), ['wide', 'deep'])
    """

    owned_argument = 'classifiers'  # by which an exported student's config gives it classifiers of its own

    @staticmethod
    def owned_classifiers(classifiers: dict[str, dict]) -> dict:
        """The value of ``owned_argument`` for the classifiers of the teachers."""
        return classifiers

    def __init__(self, aggregate: str = 'mean_prob', weights: Optional[Dict[str, float]] = None,
                 classifiers: Optional[Dict[str, dict]] = None, detach: bool = True,
                 init_cfg: Optional[dict] = None) -> None:
        # Named in full: what the parent would look up depends on the scope in which it is built.
        super().__init__(loss=dict(type='mmpretrain.CrossEntropyLoss'), init_cfg=init_cfg)
        del self.loss_module  # each branch's is its classifier's own
        self.aggregate = check_choice('aggregate', aggregate, AGGREGATES)
        for name, weight in (weights or {}).items():
            check_number(f'weights: {name}', weight, above=0)
        self.weights = weights
        self.detach = check_flag('detach', detach)
        self.owns = classifiers is not None
        self.pulls: Dict[str, float] = {}
        self.branches = ModuleDict()
        for name, classifier in (classifiers or {}).items():
            self.branches[name] = SharedClassifierHead(classifier, detach)
        if self.owns:
            self._check_names()

    def bind(self, teachers: Dict[str, SplitNetwork], pulls: Optional[Dict[str, float]] = None) -> None:
        """Shares the classifiers of the teachers; called again, it shares those of others.

        Args:
            teachers: The networks they are of.
            pulls: By how much the projectors multiply what they hand back to the student's encoder. A loss on the
                common answer has shared its gradient out among the branches already: here it is divided by as much, so
                that the encoder gets the loss's own gradient.
        """
        if self.owns:
            raise RuntimeError('this MultiClassifierHead owns its classifiers: only one built with classifiers=None '
                               'can be bound to teachers')
        self.pulls = dict(pulls or {})
        self.branches = ModuleDict()
        for name, (_, neck, head) in teachers.items():
            if not isinstance(head, ClsHead):
                raise TypeError(f'{name}: the answers of a {type(head).__name__} cannot be combined with others, '
                                'a ClsHead is needed')
            self.branches[name] = SharedClassifierHead(detach=self.detach)
            self.branches[name].bind(neck, head)
        self._check_names()

    def _check_names(self) -> None:
        if not self.branches:
            raise ValueError('MultiClassifierHead needs at least one classifier')
        if self.weights is not None and set(self.weights) != set(self.branches):
            raise ValueError(f'weights are for {", ".join(self.weights)}, the classifiers are '
                             f'{", ".join(self.branches)}')

    @property
    def num_classes(self) -> Optional[int]:
        """The number of classes, which all classifiers share."""
        heads = [branch.bound_classifier.head for branch in self.branches.values()]
        return getattr(heads[0], 'num_classes', None) if heads else None

    def _each(self, feats: Tuple[Tensor, ...]) -> List[Tuple[str, SharedClassifierHead, Tuple[Tensor]]]:
        if not self.branches:
            raise RuntimeError('MultiClassifierHead has no classifiers yet: call bind(teachers), or build it with '
                               'classifiers=dict(name=dict(neck=..., head=...))')
        if not isinstance(feats, (tuple, list)) or len(feats) != len(self.branches):
            count = len(feats) if isinstance(feats, (tuple, list)) else 1
            raise ValueError(f'{count} features for {len(self.branches)} classifiers ({", ".join(self.branches)}): '
                             'the neck must be a MultiFeatureProjector of the same teachers')
        return [(name, branch, (feature, )) for (name, branch), feature in zip(self.branches.items(), feats)]

    def pre_logits(self, feats: Tuple[Tensor, ...]) -> Tensor:
        """What the classifiers' last layers read, side by side."""
        return torch.cat([branch.pre_logits(feature) for _, branch, feature in self._each(feats)], dim=1)

    def forward(self, feats: Tuple[Tensor, ...]) -> Tensor:
        """The logits of all branches together."""
        logits = [branch((scale_gradient(feature, 1 / self.pulls.get(name, 1.0)), ))
                  for name, branch, (feature, ) in self._each(feats)]
        weights = self.weights and [self.weights[name] for name in self.branches]
        return aggregate_logits(logits, self.aggregate, weights)

    def loss(self, feats: Tuple[Tensor, ...], data_samples: List, **kwargs: Any) -> dict:
        """The losses of each branch, by its own head's rules."""
        return {f'{name}.{key}': value for name, branch, feature in self._each(feats)
                for key, value in branch.loss(feature, data_samples, **kwargs).items()}

    def release(self, classifiers: Optional[Dict[str, dict]] = None) -> 'MultiClassifierHead':
        """A new head that owns copies of the classifiers, for the student to leave with.

        Args:
            classifiers: Their configs by name, which must fit the weights exactly. None copies the modules as they are.
        """
        if classifiers is not None and set(classifiers) != set(self.branches):
            raise ValueError(f'classifiers are for {", ".join(classifiers)}, the head has {", ".join(self.branches)}')
        released = MultiClassifierHead(self.aggregate, self.weights, detach=self.detach)
        released.owns = True
        for name, branch in self.branches.items():
            released.branches[name] = branch.release(classifiers and classifiers[name])
        return released.train(self.training)
