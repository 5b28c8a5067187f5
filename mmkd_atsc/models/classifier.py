"""A network cut in two: the encoder, up to the last feature that is one tensor, and the classifier, all after it."""
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import torch
from mmengine.model import BaseModule
from mmpretrain.models.backbones import InceptionV3
from mmpretrain.models.classifiers import ImageClassifier
from mmpretrain.models.heads import ConformerHead, DeiTClsHead, MultiTaskHead
from torch import Tensor, nn

Features: TypeAlias = Tensor | tuple[Tensor, ...]


class Encoder(nn.Sequential):
    """A backbone and the necks that make one feature of what it gives; ``source`` is where the network has the last."""

    def __init__(self, backbone: nn.Module, necks: list[nn.Module], source: str) -> None:
        super().__init__()
        self.add_module('backbone', backbone)
        for i, neck in enumerate(necks):
            self.add_module(f'neck{i}', neck)
        self.source = source


class SplitNetwork(NamedTuple):
    """What :func:`split_classifier` found: the very modules of the network, not copies."""

    encoder: nn.Module
    neck: nn.Module | None
    head: nn.Module

    @property
    def source(self) -> str:
        """The module of the network, by its name, that gives the encoder's feature."""
        return self.encoder.source if isinstance(self.encoder, Encoder) else 'backbone'


class Classifier(BaseModule):
    """A neck and a head as one module, called the way MMPretrain's ``ImageClassifier`` calls its own.

    A head with several branches gets its part of the feature for each; its answer is what it predicts by, the mean or
    the sum of the branches'. Where MMPretrain trains no head with a distillation branch, that answer is what learns.

    Args:
        neck: Module between the encoder and the head, or None.
        head: A classification head.
    """

    def __init__(self, neck: nn.Module | None, head: nn.Module) -> None:
        super().__init__()
        self.neck = neck
        self.head = head

    def forward(self, features: Features, *args, method: str = '__call__', **kwargs) -> Any:
        """Runs the neck, then ``method`` of the head: itself for logits, or its ``loss``, ``predict``, ..."""
        features = (last_feature(features, 'the features'), )
        if self.neck is not None:
            features = self.neck(features)
        channels = branch_channels(self.head)
        if channels:
            features = (features[-1].split(channels, dim=1), )
        if is_distilled(self.head):
            with as_deployed(self.head):
                if method == 'loss':
                    return self.head._get_loss(self.head(features), *args, **kwargs)
                return getattr(self.head, method)(features, *args, **kwargs)
        output = getattr(self.head, method)(features, *args, **kwargs)
        if method != '__call__':
            return output
        output = sum(output) if isinstance(self.head, ConformerHead) else output
        if not isinstance(output, Tensor):
            raise TypeError(f'{type(self.head).__name__} gives a {type(output).__name__}, a shared classifier must '
                            'give one tensor of logits')
        return output

    def run_detached(self, features: Features, *args, **kwargs) -> Any:
        """:meth:`forward` with gradients for the features only; parameters and buffers stay as they are.

        The parameters are replaced for the one call by detached views, so that no other use of them in the same step
        loses its gradient, and the buffers by copies, so that batch norm does not count the batch twice.
        """
        state = {name: parameter.detach() for name, parameter in self.named_parameters()}
        state.update((name, buffer.clone()) for name, buffer in self.named_buffers())
        return torch.func.functional_call(self, state, (features, *args), kwargs)


def last_feature(features: Any, role: str = 'the backbone') -> Tensor:
    """The last of a backbone's outputs as one tensor; a bare tensor is taken as it is.

    Where the last output is several vectors (DeiT's class and distillation tokens, Conformer's two branches), the
    feature is all of them side by side.

    >>> last_feature((torch.zeros(1, 4), torch.zeros(1, 8))).shape
    torch.Size([1, 8])
    >>> last_feature((torch.zeros(1, 4), (torch.zeros(1, 8), torch.zeros(1, 8)))).shape
    torch.Size([1, 16])
    """
    if isinstance(features, (tuple, list)):
        if not features:
            raise TypeError(f'{role}: no output to take the last of')
        features = features[-1]
    if isinstance(features, Tensor):
        return features
    if isinstance(features, (tuple, list)):
        if features and all(isinstance(part, Tensor) and part.dim() == 2 for part in features):
            return torch.cat(tuple(features), dim=1)
    parts = f' of {len(features)}' if isinstance(features, (tuple, list)) else ''
    raise TypeError(f'{role}: the last output is a {type(features).__name__}{parts}, one tensor is needed '
                    "(transformers: out_type='cls_token' or 'avg_featmap')")


def classifies_inside(backbone: nn.Module) -> bool:
    """Whether a backbone gives logits instead of features (LeNet5, AlexNet, VGG with num_classes; InceptionV3).

    >>> from mmpretrain.models.backbones import LeNet5
    >>> classifies_inside(LeNet5(num_classes=10)), classifies_inside(LeNet5())
    (True, False)
    """
    return isinstance(backbone, InceptionV3) or (hasattr(backbone, 'classifier')
                                                 and getattr(backbone, 'num_classes', -1) > 0)


def split_classifier(model: nn.Module, role: str = 'teacher') -> SplitNetwork:
    """Finds the encoder and the classifier of an MMPretrain ``ImageClassifier``, or says why it cannot be split.

    The cut is behind the backbone, or behind the last neck that needs more of it than one map or vector.

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
    if classifies_inside(backbone):
        raise ValueError(f'{role}: {type(backbone).__name__} classifies inside the backbone, so there is no feature '
                         'and no classifier to share')
    inner, rest = split_neck(neck)
    check_shareable(rest, head, role)
    if not inner:
        return SplitNetwork(backbone, rest, head)
    source = f'neck.{len(inner) - 1}' if isinstance(neck, nn.Sequential) else 'neck'
    return SplitNetwork(Encoder(backbone, inner, source), rest, head)


def split_neck(neck: nn.Module | None) -> tuple[list[nn.Module], nn.Module | None]:
    """The modules of a neck that belong to the encoder, and the neck that is left for the classifier.

    >>> from mmpretrain.models.necks import GlobalAveragePooling, HRFuseScales
    >>> inner, rest = split_neck(nn.Sequential(HRFuseScales([8, 8, 8, 8]), GlobalAveragePooling()))
    >>> len(inner), len(rest)
    (1, 1)
    """
    modules = list(neck) if isinstance(neck, nn.Sequential) else [neck]
    cut = max((i for i, module in enumerate(modules, start=1) if _reads_several(module)), default=0)
    if cut == 0:
        return [], neck
    return modules[:cut], nn.Sequential(*modules[cut:]) if modules[cut:] else None


def _reads_several(neck: Any) -> bool:
    """Whether a neck reads several maps (HRNet's), or tokens, which are neither a map nor a vector (MlpMixer's)."""
    for module in neck.modules() if isinstance(neck, nn.Module) else ():
        channels = getattr(module, 'in_channels', None)
        if isinstance(module, nn.AdaptiveAvgPool1d) or (isinstance(channels, (tuple, list)) and len(channels) > 1):
            return True
    return False


def check_shareable(neck: nn.Module | None, head: nn.Module, role: str = 'teacher') -> None:
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
    if hasattr(head, 'release') and not any(True for _ in head.parameters()):
        raise ValueError(f'{role}: its {name} owns no classifier, as in a student that is being trained; '
                         'tools/export_student.py writes it with one')
    channels = getattr(head, 'in_channels', None)
    if isinstance(head, MultiTaskHead) or (isinstance(channels, (tuple, list)) and branch_channels(head) is None):
        raise ValueError(f'{role}: {name} does not map one feature tensor to one tensor of logits')
    modules = [module for part in (neck, head) if part is not None for module in part.modules()]
    if not any(True for module in modules for _ in module.parameters(recurse=False)):
        raise ValueError(f'{role}: neither neck nor head ({name}) has parameters, so there is no classifier to share '
                         '(is it inside the backbone?)')


def branch_channels(head: nn.Module) -> list[int] | None:
    """The channels of each feature that a head of several branches reads, None for a head that reads one feature.

    >>> branch_channels(ConformerHead(num_classes=5, in_channels=[8, 6]))
    [8, 6]
    """
    if isinstance(head, DeiTClsHead):
        return [head.in_channels] * 2
    return list(head.in_channels) if isinstance(head, ConformerHead) else None


def is_distilled(head: nn.Module) -> bool:
    """Whether a head has a second branch for a distillation that MMPretrain does not train (DeiT, LeViT, ...)."""
    return isinstance(head, DeiTClsHead) or getattr(head, 'dist', False) is True \
        or getattr(head, 'distillation', False) is True


@contextmanager
def as_deployed(head: nn.Module) -> Iterator[None]:
    """The head itself, but none of its layers, takes this for inference: it gives the mean of its branches."""
    training, head.training = head.training, False
    try:
        yield
    finally:
        head.training = training
