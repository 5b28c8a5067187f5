"""A network cut in two: the encoder (its backbone) and the classifier (its neck and head, everything after it)."""
from typing import Any, NamedTuple, Optional, Tuple, Union

import torch
from mmengine.model import BaseModule
from mmpretrain.models.classifiers import ImageClassifier
from mmpretrain.models.heads import ConformerHead, DeiTClsHead, MultiTaskHead
from torch import Tensor, nn

Features = Union[Tensor, Tuple[Tensor, ...]]

# Heads that do not turn one feature tensor into one tensor of logits. DeiT's is the dangerous one: given a tensor of
# two samples it takes the first for the class token and the second for the distillation token.
_UNSHAREABLE_HEADS = (ConformerHead, DeiTClsHead, MultiTaskHead)


class SplitNetwork(NamedTuple):
    """What :func:`split_classifier` found: the very modules of the network, not copies."""

    backbone: nn.Module
    neck: Optional[nn.Module]
    head: nn.Module


class Classifier(BaseModule):
    """A neck and a head as one module, called the way MMPretrain's ``ImageClassifier`` calls its own.

    Args:
        neck: Module between the backbone and the head, or None.
        head: A classification head.
    """

    def __init__(self, neck: Optional[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.neck = neck
        self.head = head

    def forward(self, features: Features, *args, method: str = '__call__', **kwargs) -> Any:
        """Runs the neck, then ``method`` of the head: itself for logits, or its ``loss``, ``predict``, ..."""
        features = (last_feature(features, 'the features'), )
        if self.neck is not None:
            features = self.neck(features)
        return getattr(self.head, method)(features, *args, **kwargs)

    def run_detached(self, features: Features, *args, **kwargs) -> Any:
        """:meth:`forward` with gradients for the features only; parameters and buffers stay as they are.

        The parameters are replaced for the one call by detached views, so that no other use of them in the same step
        loses its gradient, and the buffers by copies, so that batch norm does not count the batch twice.
        """
        state = {name: parameter.detach() for name, parameter in self.named_parameters()}
        state.update((name, buffer.clone()) for name, buffer in self.named_buffers())
        return torch.func.functional_call(self, state, (features, *args), kwargs)


def classify(neck: Optional[nn.Module], head: nn.Module, features: Features) -> Tensor:
    """The logits of a neck (or None) and a head for an encoder's features.

    >>> from mmpretrain.models.heads import LinearClsHead
    >>> classify(None, LinearClsHead(num_classes=5, in_channels=8), torch.ones(2, 8)).shape
    torch.Size([2, 5])
    """
    return check_logits(Classifier(neck, head)(features), head)


def classify_detached(neck: Optional[nn.Module], head: nn.Module, features: Features) -> Tensor:
    """:func:`classify` where the classifier learns nothing and keeps its buffers; the features get their gradient.

    >>> from mmpretrain.models.heads import LinearClsHead
    >>> head, features = LinearClsHead(num_classes=5, in_channels=8), torch.ones(2, 8, requires_grad=True)
    >>> classify_detached(None, head, features).sum().backward()
    >>> head.fc.weight.grad is None, features.grad.shape
    (True, torch.Size([2, 8]))
    """
    return check_logits(Classifier(neck, head).run_detached(features), head)


def check_logits(output: Any, head: nn.Module) -> Tensor:
    """``output`` if it is a tensor, else one line that names the head."""
    if isinstance(output, Tensor):
        return output
    raise TypeError(f'{type(head).__name__} gives a {type(output).__name__}, a shared classifier must give one tensor '
                    'of logits')


def last_feature(features: Any, role: str = 'the backbone') -> Tensor:
    """The last of a backbone's outputs, which must be one tensor; a bare tensor is taken as it is.

    >>> last_feature((torch.zeros(1, 4), torch.zeros(1, 8))).shape
    torch.Size([1, 8])
    """
    if isinstance(features, (tuple, list)):
        if not features:
            raise TypeError(f'{role}: no output to take the last of')
        features = features[-1]
    if isinstance(features, Tensor):
        return features
    parts = f' of {len(features)}' if isinstance(features, (tuple, list)) else ''
    raise TypeError(f'{role}: the last output is a {type(features).__name__}{parts}, one tensor is needed '
                    "(transformers: out_type='cls_token' or 'avg_featmap')")


def split_classifier(model: nn.Module, role: str = 'teacher') -> SplitNetwork:
    """Finds the encoder and the classifier of an MMPretrain ``ImageClassifier``, or says why it cannot be split.

    Args:
        model: The network.
        role: How messages call it.

    >>> from mmpretrain.models import ImageClassifier
    >>> network = ImageClassifier(backbone=nn.Identity(), head=dict(type='LinearClsHead', num_classes=5, in_channels=8))
    >>> split_classifier(network).neck is None
    True
    """
    name = type(model).__name__
    if not isinstance(model, ImageClassifier):
        raise TypeError(f'{role}: a {name} cannot be split into encoder and classifier, '
                        'an mmpretrain.ImageClassifier is needed')
    backbone, neck, head = (getattr(model, part, None) for part in ('backbone', 'neck', 'head'))
    for part, module in (('backbone', backbone), ('head', head)):
        if module is None:
            raise ValueError(f'{role}: the {name} has no {part}, so it cannot be split into encoder and classifier')
    check_shareable(neck, head, role)
    return SplitNetwork(backbone, neck, head)


def check_shareable(neck: Optional[nn.Module], head: nn.Module, role: str = 'teacher') -> None:
    """Refuses, in one line, a neck and head that do not map one feature tensor to one tensor of trainable logits."""
    if not isinstance(head, nn.Module) or not (neck is None or isinstance(neck, nn.Module)):
        raise TypeError(f'{role}: the neck must be a module or None and the head a module, '
                        f'not {type(neck).__name__} and {type(head).__name__}')
    name = type(head).__name__
    missing = [method for method in ('loss', 'predict') if not hasattr(head, method)]
    if type(head).forward is nn.Module.forward:
        missing.insert(0, 'forward')
    if missing:
        raise ValueError(f'{role}: {name} has no {" and no ".join(missing)}, so it is no classification head')
    if isinstance(head, _UNSHAREABLE_HEADS):
        raise ValueError(f'{role}: {name} does not map one feature tensor to one tensor of logits')
    if getattr(head, 'dist', False) is True or getattr(head, 'distillation', False) is True:
        raise ValueError(f'{role}: MMPretrain cannot train {name} with its distillation branch, '
                         'set distillation=False in the head')
    modules = [module for part in (neck, head) if part is not None for module in part.modules()]
    for module in modules:
        channels = getattr(module, 'in_channels', None)
        if isinstance(channels, (tuple, list)) and len(channels) > 1:
            raise ValueError(f'{role}: {type(module).__name__} reads {len(channels)} feature maps, only the last one '
                             'of the backbone is shared')
    # MMPretrain's VGG and InceptionV3 classify inside their backbones.
    if not any(True for module in modules for _ in module.parameters(recurse=False)):
        raise ValueError(f'{role}: neither neck nor head ({name}) has parameters, so there is no classifier to share '
                         '(is it inside the backbone?)')
