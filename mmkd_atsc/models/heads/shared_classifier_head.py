"""A student's head that is not its own: in training the teacher's classifier, when deployed a copy of it."""
import copy
from typing import Any, List, Optional, Tuple

import torch
from mmpretrain.models.heads import ClsHead, ConformerHead
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_flag, nearest
from mmkd_atsc.registry import MODELS

from ..classifier import Classifier, Features, check_logits, check_shareable, last_feature, split_neck


@MODELS.register_module()
class SharedClassifierHead(ClsHead):
    """The teacher's classifier (its neck and head) as the head of a student.

    The projected student feature takes the place of the teacher's feature, and everything after that is the teacher's
    own: the logits, and the head's own rules for ``loss`` and ``predict``. There are two forms of it:

    - *shared* (``classifier=None``), for training: the algorithm calls :meth:`bind`. The modules are used but not
      registered here, so that they have one owner, the teacher, and one entry in the optimizer and the state dict.
      Moving them and their train mode are the owner's affair too.
    - *owned* (``classifier=dict(neck=..., head=...)``), the deployed network: an ordinary head with its own weights,
      which :meth:`release` makes out of a shared one.

    A copy (``copy.deepcopy``) of the whole algorithm uses the copied teacher; a copy of the student alone has a private
    copy of the classifier, which moves with nothing: release it first.

    Args:
        classifier: ``dict(neck=<config or None>, head=<config>)`` to own a classifier, None to share a teacher's.
        detach: The student's loss gives no gradient to a shared classifier, which learns from the teacher's features
            alone. An owned one always learns.
        init_cfg: As in every MMEngine module.

    Examples:
        >>> from mmpretrain.models.heads import LinearClsHead
        >>> teacher_head = LinearClsHead(num_classes=5, in_channels=8)
        >>> head = SharedClassifierHead()
        >>> head.bind(None, teacher_head)
        >>> head((torch.ones(2, 8), )).shape, len(list(head.parameters()))
        (torch.Size([2, 5]), 0)
        >>> deployed = head.release(dict(head=dict(type='LinearClsHead', num_classes=5, in_channels=8)))
        >>> list(deployed.state_dict())
        ['classifier.head.fc.weight', 'classifier.head.fc.bias']
    """

    owned_argument = 'classifier'  # by which an exported student's config gives it a classifier of its own

    @staticmethod
    def owned_classifiers(classifiers: dict[str, dict]) -> dict:
        """The value of ``owned_argument`` for the classifiers of the teachers, of which it shares one."""
        classifier, = classifiers.values()
        return classifier

    def __init__(self, classifier: Optional[dict] = None, detach: bool = True, init_cfg: Optional[dict] = None) -> None:
        # Named in full: what the parent would look up depends on the scope in which it is built.
        super().__init__(loss=dict(type='mmpretrain.CrossEntropyLoss'), init_cfg=init_cfg)
        # The loss is the classifier's own; the default one of the parent class would only mislead.
        del self.loss_module
        self.detach = check_flag('detach', detach)
        # A tuple hides the shared modules from torch's bookkeeping, yet deepcopy and pickle still follow it.
        self._shared: Tuple[Classifier, ...] = ()
        self.classifier = None if classifier is None else build_classifier(classifier)

    def bind(self, neck: Optional[nn.Module], head: nn.Module) -> None:
        """Shares the modules of a teacher; called again, it shares those of another."""
        if self.classifier is not None:
            raise RuntimeError('this SharedClassifierHead owns its classifier: only one built with classifier=None '
                               'can be bound to a teacher')
        check_shareable(neck, head)
        self._shared = (Classifier(neck, head), )

    @property
    def bound_classifier(self) -> Classifier:
        """The classifier in use, shared or owned."""
        if self.classifier is not None:
            return self.classifier
        if not self._shared:
            raise RuntimeError('SharedClassifierHead has no classifier yet: call bind(neck, head) with the modules of '
                               'a teacher, or build it with classifier=dict(neck=..., head=...)')
        return self._shared[0]

    def _run(self, features: Features, *args, **kwargs) -> Any:
        classifier = self.bound_classifier
        if self.detach and self.classifier is None and torch.is_grad_enabled():
            return classifier.run_detached(features, *args, **kwargs)
        return classifier(features, *args, **kwargs)

    def pre_logits(self, feats: Tuple[Tensor, ...]) -> Tensor:
        """What the classifier's last layer reads, by the classifier's own definition."""
        return last_feature((self._run(feats, method='pre_logits'), ), 'pre_logits')

    def forward(self, feats: Tuple[Tensor, ...]) -> Tensor:
        """The logits of the projected features."""
        return check_logits(self._run(feats), self.bound_classifier.head)

    def loss(self, feats: Tuple[Tensor, ...], data_samples: List, **kwargs) -> dict:
        """The losses of the classifier's own head for the projected features."""
        return self._run(feats, data_samples, method='loss', **kwargs)

    def predict(self, feats: Tuple[Tensor, ...], data_samples: Optional[List] = None, **kwargs) -> List:
        """The predictions of the classifier's own head for the projected features."""
        return self._run(feats, data_samples, method='predict', **kwargs)

    def _get_loss(self, cls_score: Tensor, data_samples: List, **kwargs) -> dict:
        head = self.bound_classifier.head
        if isinstance(head, ConformerHead):  # its own takes the answers of its branches, here they are summed
            return ClsHead._get_loss(head, cls_score, data_samples, **kwargs)
        return head._get_loss(cls_score, data_samples, **kwargs)

    def _get_predictions(self, cls_score: Tensor, data_samples: Optional[List]) -> List:
        return self.bound_classifier.head._get_predictions(cls_score, data_samples)

    def release(self, classifier: Optional[dict] = None) -> 'SharedClassifierHead':
        """A new head that owns a copy of the classifier, for the student to leave with.

        Args:
            classifier: Config to build it from, which must fit the weights exactly. None copies the modules as they
                are, with whatever hooks hang on them.
        """
        source = self.bound_classifier
        if classifier is None:
            neck, head = copy.deepcopy((source.neck, source.head))
            return SharedClassifierHead(dict(neck=neck, head=head), self.detach)
        released = SharedClassifierHead(classifier, self.detach)
        weights, wanted = source.state_dict(), released.classifier.state_dict()
        wrong = [key for key in sorted({*weights, *wanted})
                 if key not in weights or key not in wanted or weights[key].shape != wanted[key].shape]
        if wrong:
            raise ValueError(f'classifier does not describe the shared one: {len(wrong)} weights differ in name or '
                             f'shape ({", ".join(wrong[:3])}{", ..." if len(wrong) > 3 else ""})')
        if weights:
            released.to(next(iter(source.parameters()), next(iter(weights.values()))))
        released.classifier.load_state_dict(weights)
        return released.train(source.head.training)


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
