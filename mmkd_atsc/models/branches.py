"""Heads of MMPretrain with several branches: what each reads, and how they answer and learn together."""
from contextlib import contextmanager
from typing import Iterator, List, Optional

from mmpretrain.models.heads import ConformerHead, DeiTClsHead, MultiLabelClsHead
from torch import nn


def branch_channels(head: nn.Module) -> Optional[List[int]]:
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


def check_logit_head(head: Optional[nn.Module], role: str, learns: bool = False) -> None:
    """Refuses, in one line, a head that gives no tensor of logits, or that MMPretrain does not train.

    >>> from mmpretrain.models.heads import LeViTClsHead
    >>> check_logit_head(LeViTClsHead(num_classes=5, in_channels=8), 'student', learns=True)
    Traceback (most recent call last):
    ValueError: student: MMPretrain does not train LeViTClsHead with its distillation branch, set distillation=False
    """
    name = type(head).__name__
    if isinstance(head, ConformerHead):
        raise ValueError(f'{role}: {name} gives the logits of two branches apart, one tensor is needed; choose a '
                         'branch by data_idx in loss_forward_mappings')
    if learns and is_distilled(head) and not isinstance(head, DeiTClsHead):  # which trains the mean of its branches
        raise ValueError(f'{role}: MMPretrain does not train {name} with its distillation branch, set '
                         'distillation=False')


def check_single_label(head: Optional[nn.Module], role: str) -> None:
    """Refuses, in one line, a head whose classes do not exclude each other.

    >>> check_single_label(MultiLabelClsHead(), 'teacher')
    Traceback (most recent call last):
    ValueError: teacher: MultiLabelClsHead gives several labels an image, AEKT needs a head of one label
    """
    if isinstance(head, MultiLabelClsHead):
        raise ValueError(f'{role}: {type(head).__name__} gives several labels an image, AEKT needs a head of one label')
