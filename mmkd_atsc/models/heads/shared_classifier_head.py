"""A student's head that is not its own: in training its teachers' classifiers, when deployed a copy of them."""
import copy
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.model import ModuleDict
from mmpretrain.models.heads import ClsHead, ConformerHead
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_choice, check_flag, check_number, nearest
from mmkd_atsc.registry import MODELS

from ..aggregate import AGGREGATES, aggregate_logits
from ..classifier import Classifier, Features, SplitNetwork, check_shareable, last_feature, split_neck
from ..connectors.feature_projector import scale_gradient


@MODELS.register_module()
class SharedClassifierHead(ClsHead):
    """The classifier (neck and head) of a teacher, or of each of several, as the head of a student.

    The projected student feature takes the place of the teacher's feature, and everything after that is the teacher's
    own: the logits, and the head's own rules for ``loss`` and ``predict``. Several teachers have a branch each; the
    logits are those that :func:`aggregate_logits` makes of the branches'. There are two forms of it:

    - *shared* (no classifier is given), for training: the algorithm binds it to its teachers. The modules are used but
      not registered here: the teacher owns, moves, optimizes and saves them.
    - *owned*, the deployed network: an ordinary head with its own weights, which :meth:`release` makes of a shared one.

    A copy (``copy.deepcopy``) of the whole algorithm uses the copied teacher; a copy of the student alone has a private
    copy of the classifier, which moves with nothing: release it first.

    Args:
        classifier: ``dict(neck=<config or None>, head=<config>)`` to own one classifier.
        detach: The student's loss gives no gradient to a shared classifier, which learns from the teacher's features
            alone. An owned one always learns.
        aggregate: 'mean_prob', 'mean_logit', 'vote', or 'confidence' (a branch counts by its own largest probability).
        weights: How much each branch counts, by the teachers' names. None: alike.
        classifiers: A dict like ``classifier`` for each of several names, to own them.
        init_cfg: As in every MMEngine module.

    Examples:
        >>> from mmpretrain.models.heads import LinearClsHead
        >>> teacher_head = LinearClsHead(num_classes=5, in_channels=8)
        >>> head = SharedClassifierHead()
        >>> head.bind(None, teacher_head)
        >>> head((torch.ones(2, 8), )).shape, len(list(head.parameters()))
        (torch.Size([2, 5]), 0)
        >>> owned = dict(head=dict(type='LinearClsHead', num_classes=5, in_channels=8))
        >>> list(head.release(owned).state_dict())
        ['classifier.head.fc.weight', 'classifier.head.fc.bias']
        >>> head = SharedClassifierHead(classifiers=dict(wide=owned, deep=owned))
        >>> head((torch.ones(2, 8), torch.ones(2, 8))).shape, list(head.branches)
        (torch.Size([2, 5]), ['wide', 'deep'])
    """

    @staticmethod
    def own_config(config: dict, classifiers: dict[str, dict]) -> dict:
        """The config of an exported student's head: copies of the teachers' classifiers are its own."""
        if len(classifiers) > 1:
            return dict(config, classifiers=classifiers)
        return dict(config, classifier=next(iter(classifiers.values())))

    @staticmethod
    def owned_classifiers(config: dict) -> dict | None:
        """What a config gives the head as its own: a classifier, or several by name; None for a shared one."""
        return config.get('classifier') or config.get('classifiers')

    def __init__(self, classifier: dict | None = None, detach: bool = True, aggregate: str = 'mean_prob',
                 weights: dict[str, float] | None = None, classifiers: dict[str, dict] | None = None,
                 init_cfg: dict | None = None) -> None:
        # Named in full: what the parent would look up depends on the scope in which it is built.
        super().__init__(loss=dict(type='mmpretrain.CrossEntropyLoss'), init_cfg=init_cfg)
        # The loss is the classifier's own; the default one of the parent class would only mislead.
        del self.loss_module
        self.detach = check_flag('detach', detach)
        self.aggregate = check_choice('aggregate', aggregate, AGGREGATES)
        for name, weight in (weights or {}).items():
            check_number(f'weights: {name}', weight, above=0)
        self.weights = weights
        # A tuple hides the shared modules from torch's bookkeeping, yet deepcopy and pickle still follow it.
        self._shared: tuple[Classifier, ...] = ()
        self.classifier = None if classifier is None else build_classifier(classifier)
        self.branches: ModuleDict | None = None
        self.owns = classifier is not None or classifiers is not None
        self.teacher_grad_scales: dict[str, float] = {}
        if classifiers is not None:
            self._set_branches({name: SharedClassifierHead(part, detach) for name, part in classifiers.items()})

    def _set_branches(self, branches: dict[str, 'SharedClassifierHead']) -> None:
        if not branches:
            raise ValueError(f'{type(self).__name__} needs at least one classifier')
        if self.weights is not None and set(self.weights) != set(branches):
            raise ValueError(f'weights are for {", ".join(self.weights)}, the classifiers are {", ".join(branches)}')
        self.branches = ModuleDict(branches)

    def bind(self, neck: nn.Module | None, head: nn.Module) -> None:
        """Shares the modules of one teacher; called again, it shares those of another."""
        self._check_shares()
        check_shareable(neck, head)
        self._shared = (Classifier(neck, head), )

    def bind_teachers(self, teachers: dict[str, SplitNetwork],
                      teacher_grad_scales: dict[str, float] | None = None) -> None:
        """Shares the classifiers of one teacher or several; called again, it shares those of others.

        Args:
            teachers: The networks they are of.
            teacher_grad_scales: Factor on the gradient that each projector gives to the student's encoder. A loss on
                the common answer has shared its gradient out among the branches already: here it is divided by as much,
                so that the encoder gets the loss's own gradient.
        """
        if len(teachers) == 1:
            (_, neck, head), = teachers.values()
            return self.bind(neck, head)
        self._check_shares()
        branches = {}
        for name, (_, neck, head) in teachers.items():
            if not isinstance(head, ClsHead):
                raise TypeError(f'{name}: the answers of a {type(head).__name__} cannot be combined with others, '
                                'a ClsHead is needed')
            branches[name] = SharedClassifierHead(detach=self.detach)
            branches[name].bind(neck, head)
        self.teacher_grad_scales = dict(teacher_grad_scales or {})
        self._set_branches(branches)

    def _check_shares(self) -> None:
        if self.owns:
            raise RuntimeError(f'this {type(self).__name__} owns its classifiers: only one built without can be bound '
                               'to teachers')

    @property
    def bound_classifier(self) -> Classifier:
        """The classifier in use, shared or owned; of several the first."""
        if self.branches is not None:
            return next(iter(self.branches.values())).bound_classifier
        if self.classifier is None and not self._shared:
            raise RuntimeError(f'{type(self).__name__} has no classifier yet: call bind(neck, head) with the modules '
                               'of a teacher, or build it with classifier=dict(neck=..., head=...)')
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

    def _each(self, feats: tuple[Tensor, ...]) -> Iterator[tuple[str, 'SharedClassifierHead', tuple[Tensor]]]:
        """The branches by name, each with its feature."""
        branches = self.branches or {}
        if not isinstance(feats, (tuple, list)) or len(feats) != len(branches):
            count = len(feats) if isinstance(feats, (tuple, list)) else 1
            raise ValueError(f'{count} features for {len(branches)} classifiers ({", ".join(branches)}): '
                             'the neck must be a FeatureProjector of the same teachers')
        return ((name, branch, (feature, )) for (name, branch), feature in zip(branches.items(), feats))

    def pre_logits(self, feats: tuple[Tensor, ...]) -> Tensor:
        """What the classifier's last layer reads, by its own definition; of several classifiers side by side."""
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

    def _get_loss(self, cls_score: Tensor, data_samples: list, **kwargs: Any) -> dict:
        head = self.bound_classifier.head
        if isinstance(head, ConformerHead):  # its own takes the answers of its branches, here they are summed
            return ClsHead._get_loss(head, cls_score, data_samples, **kwargs)
        return head._get_loss(cls_score, data_samples, **kwargs)

    def _get_predictions(self, cls_score: Tensor, data_samples: list | None) -> list:
        if self.branches is not None:
            return super()._get_predictions(cls_score, data_samples)
        return self.bound_classifier.head._get_predictions(cls_score, data_samples)

    def release(self, config: dict | None = None) -> 'SharedClassifierHead':
        """A new head that owns copies of the classifiers, for the student to leave with.

        Args:
            config: To build the classifier from, ``dict(neck=..., head=...)``, which must fit the weights exactly; for
                several teachers one for each name. None copies the modules as they are, with whatever hooks hang on
                them.
        """
        if self.branches is not None:
            if config is not None and set(config) != set(self.branches):
                raise ValueError(f'classifiers are for {", ".join(config)}, the head has {", ".join(self.branches)}')
            released = type(self)(detach=self.detach, aggregate=self.aggregate, weights=self.weights)
            released._set_branches({name: branch.release(config and config[name])
                                    for name, branch in self.branches.items()})
            released.owns = True
            return released.train(self.training)
        source = self.bound_classifier
        if config is None:
            neck, head = copy.deepcopy((source.neck, source.head))
            return SharedClassifierHead(dict(neck=neck, head=head), self.detach)
        released = SharedClassifierHead(config, self.detach)
        owned = released.bound_classifier
        weights, wanted = source.state_dict(), owned.state_dict()
        wrong = [key for key in sorted({*weights, *wanted})
                 if key not in weights or key not in wanted or weights[key].shape != wanted[key].shape]
        if wrong:
            raise ValueError(f'classifier does not describe the shared one: {len(wrong)} weights differ in name or '
                             f'shape ({", ".join(wrong[:3])}{", ..." if len(wrong) > 3 else ""})')
        if weights:
            released.to(next(iter(source.parameters()), next(iter(weights.values()))))
        owned.load_state_dict(weights)
        return released.train(source.head.training)


@MODELS.register_module()
class MultiClassifierHead(SharedClassifierHead):
    """A :class:`SharedClassifierHead` for several teachers, by the name of older configs and exported students."""


def build_classifier(classifier: dict) -> Classifier:
    """Builds ``dict(neck=<config, module or None>, head=<config or module>)``.

    The parts of a teacher's config will do: what belongs to its encoder in the neck is left out.

    >>> build_classifier(dict(head=dict(type='LinearClsHead', num_classes=5, in_channels=8))).neck is None
    True
    """
    if not isinstance(classifier, dict):
        raise TypeError(f'classifier must be dict(neck=..., head=...) or None, not a {type(classifier).__name__}')
    for key in classifier:
        if key not in ('neck', 'head'):
            raise ValueError(f'classifier has an unknown key {key!r}, it takes neck and head'
                             f'{nearest(key, ("neck", "head"))}')
    if classifier.get('head') is None:
        raise ValueError('classifier needs a head: dict(neck=<config or None>, head=<config>)')
    neck, head = (MMPRETRAIN_MODELS.build(part) if isinstance(part, (dict, list)) else part
                  for part in (classifier.get('neck'), classifier['head']))
    _, neck = split_neck(neck)
    check_shareable(neck, head, role='classifier')
    return Classifier(neck, head)
