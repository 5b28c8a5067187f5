"""Splits a network into its encoder, up to the last feature that is one tensor, and its classifier, all after it."""
from collections import OrderedDict
from typing import Any, NamedTuple, TypeAlias

import torch
from mmengine.model import BaseModule
from mmpretrain.models.backbones import InceptionV3
from mmpretrain.models.classifiers import ImageClassifier
from mmpretrain.models.heads import ConformerHead, DeiTClsHead, MultiTaskHead
from torch import Tensor, nn

Features: TypeAlias = Tensor | tuple[Tensor, ...]


class Classifier(BaseModule):
    """A neck and a head as one module, called the way MMPretrain's ``ImageClassifier`` calls its own.

    A head with several branches gets its part of the feature for each. It learns by the logits by which it predicts:
    the mean or the sum of the branches'.
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
        distilled, training = is_distilled(self.head), self.head.training
        # A distilled head, but not its layers, runs as in inference: it gives the mean of its branches.
        self.head.training = training and not distilled
        try:
            if distilled and method == 'loss':
                return self.head._get_loss(self.head(features), *args, **kwargs)
            output = getattr(self.head, method)(features, *args, **kwargs)
        finally:
            self.head.training = training
        if method != '__call__':
            return output
        output = sum(output) if isinstance(self.head, ConformerHead) else output
        if not isinstance(output, Tensor):
            raise TypeError(f'{type(self.head).__name__} gives a {type(output).__name__}, a shared classifier must '
                            'give one tensor of logits')
        return output

    def run_detached(self, features: Features, *args, **kwargs) -> Any:
        """:meth:`forward` with gradients for the features only; parameters and buffers stay as they are."""
        # Views and copies for this call: the parameters may have other uses in the same step.
        state = {name: parameter.detach() for name, parameter in self.named_parameters()}
        state.update((name, buffer.clone()) for name, buffer in self.named_buffers())
        return torch.func.functional_call(self, state, (features, *args), kwargs)


class SplitNetwork(NamedTuple):
    """The parts of a network: its own modules, not copies. Its module ``source`` gives the encoder's feature."""

    encoder: nn.Module
    classifier: Classifier
    source: str = 'backbone'


def last_feature(features: Any, role: str = 'the backbone') -> Tensor:
    """The last of a backbone's outputs; several vectors (DeiT's two tokens, Conformer's two branches) side by side."""
    last = features[-1] if isinstance(features, (tuple, list)) else features
    if isinstance(last, Tensor):
        return last
    parts = last if isinstance(last, (tuple, list)) else ()
    if parts and all(isinstance(part, Tensor) and part.dim() == 2 for part in parts):
        return torch.cat(tuple(parts), dim=1)
    raise TypeError(f'{role}: the last output is a {type(last).__name__}{f" of {len(parts)}" if parts else ""}, one '
                    "tensor is needed (transformers: out_type='cls_token' or 'avg_featmap')")


def classifies_inside(backbone: nn.Module) -> bool:
    """Whether a backbone gives logits instead of features (LeNet5, AlexNet, VGG with num_classes; InceptionV3)."""
    return isinstance(backbone, InceptionV3) or (hasattr(backbone, 'classifier')
                                                 and getattr(backbone, 'num_classes', -1) > 0)


def split_classifier(model: nn.Module, role: str = 'teacher') -> SplitNetwork:
    """Finds the encoder and the classifier of an ``ImageClassifier``, which messages call by its ``role``.

    The encoder ends with the backbone, or with the last neck that needs more of it than one map or vector.
    """
    name = type(model).__name__
    if not isinstance(model, ImageClassifier):
        raise TypeError(f'{role}: a {name} cannot be split into encoder and classifier, '
                        'an mmpretrain.ImageClassifier is needed')
    backbone, neck, head = model.backbone, model.neck, model.head
    if head is None:
        raise ValueError(f'{role}: the {name} has no head, so it cannot be split into encoder and classifier')
    if classifies_inside(backbone):
        raise ValueError(f'{role}: {type(backbone).__name__} classifies inside the backbone, so there is no feature '
                         'and no classifier to share')
    inner, rest = split_neck(neck)
    check_shareable(rest, head, role)
    if not inner:
        return SplitNetwork(backbone, Classifier(rest, head))
    encoder = nn.Sequential(OrderedDict(backbone=backbone, **{f'neck{i}': part for i, part in enumerate(inner)}))
    source = f'neck.{len(inner) - 1}' if isinstance(neck, nn.Sequential) else 'neck'
    return SplitNetwork(encoder, Classifier(rest, head), source)


def split_neck(neck: nn.Module | None) -> tuple[list[nn.Module], nn.Module | None]:
    """The modules of a neck that belong to the encoder, and the neck that is left for the classifier."""
    modules = list(neck) if isinstance(neck, nn.Sequential) else [neck] if neck is not None else []
    cut = max((i for i, module in enumerate(modules, start=1) if _reads_several(module)), default=0)
    if cut == 0:
        return [], neck
    return modules[:cut], nn.Sequential(*modules[cut:]) if modules[cut:] else None


def _reads_several(neck: nn.Module) -> bool:
    """Whether a neck reads several maps (HRNet's), or tokens, which are neither a map nor a vector (MlpMixer's)."""
    channels = [getattr(module, 'in_channels', None) for module in neck.modules()]
    return (any(isinstance(count, (tuple, list)) and len(count) > 1 for count in channels)
            or any(isinstance(module, nn.AdaptiveAvgPool1d) for module in neck.modules()))


def check_shareable(neck: nn.Module | None, head: nn.Module, role: str = 'teacher') -> None:
    """Refuses a neck and head without a classifier of their own."""
    name = type(head).__name__
    if hasattr(head, 'release') and not any(True for _ in head.parameters()):
        raise ValueError(f'{role}: its {name} owns no classifier, as in a student that is being trained; '
                         'tools/export_student.py writes it with one')
    channels = getattr(head, 'in_channels', None)
    if isinstance(head, MultiTaskHead) or (isinstance(channels, (tuple, list)) and branch_channels(head) is None):
        raise ValueError(f'{role}: {name} does not map one feature tensor to one tensor of logits')
    if not any(True for part in (neck, head) if part is not None for _ in part.parameters()):
        raise ValueError(f'{role}: neither neck nor head ({name}) has parameters, so there is no classifier to share '
                         '(is it inside the backbone?)')


def branch_channels(head: nn.Module) -> list[int] | None:
    """The channels of each feature that a head of several branches reads, None for a head that reads one feature."""
    if isinstance(head, DeiTClsHead):
        return [head.in_channels] * 2
    return list(head.in_channels) if isinstance(head, ConformerHead) else None


def is_distilled(head: nn.Module) -> bool:
    """Whether a head has a second branch for a distillation that MMPretrain does not train (DeiT, LeViT, ...)."""
    return isinstance(head, DeiTClsHead) or True in (getattr(head, name, None) for name in ('dist', 'distillation'))
