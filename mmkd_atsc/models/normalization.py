"""One batch of images for networks with different input normalisations."""
from types import SimpleNamespace
from typing import Any

import torch
from mmpretrain.models import TimmClassifier
from torch import Tensor, nn

from .binding import image_channels


class Renormalize(nn.Module):
    r"""Turns images normalised for one network into images normalised for another.

    .. math:: x_t = \frac{x_s\,\sigma_s + \mu_s - \mu_t}{\sigma_t}

    with the channels flipped first if one network takes RGB and the other BGR. It is affine, so it commutes with mixup
    and CutMix. ``source`` and ``target`` are the two networks' data preprocessors; None is the same as ``source``.
    """

    def __init__(self, source: Any, target: Any) -> None:
        super().__init__()
        self.identity = True
        if target is None:
            return
        source_mean, source_std = _statistics(source)
        target_mean, target_std = _statistics(target)
        self.flip = _takes_rgb(source) != _takes_rgb(target)
        if self.flip:  # the student's statistics in the teacher's channel order
            source_mean, source_std = source_mean.flip(0), source_std.flip(0)
        scale, shift = source_std / target_std, (source_mean - target_mean) / target_std
        self.identity = not self.flip and bool((scale == 1).all() and (shift == 0).all())
        self.register_buffer('scale', scale.view(1, -1, 1, 1), persistent=False)
        self.register_buffer('shift', shift.view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if self.identity:
            return images
        if self.flip:
            images = images.flip(1)
        return images * self.scale.to(images.dtype) + self.shift.to(images.dtype)


def timm_normalization(model: nn.Module, student: nn.Module) -> Any:
    """How timm normalises images for a network of its own, in the place of a data preprocessor; None for others.

    It takes RGB. A student that swaps no channels sees them as they are read: in RGB from CIFAR's arrays, in BGR from
    files, which its mean then shows by rising, as red is the brightest colour of photographs.
    """
    stats = getattr(getattr(model, 'model', None), 'pretrained_cfg', None)
    if not isinstance(model, TimmClassifier) or not stats or image_channels(model) != len(stats['mean']):
        return None
    student_mean, _ = _statistics(student)
    return SimpleNamespace(mean=255 * torch.tensor(stats['mean']), std=255 * torch.tensor(stats['std']),
                           to_rgb=_takes_rgb(student) or bool(student_mean[0] < student_mean[-1]))


def _statistics(preprocessor: Any) -> tuple[Tensor, Tensor]:
    mean, std = getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)
    if mean is None or std is None:
        return torch.zeros(3), torch.ones(3)
    return mean.detach().flatten().clone(), std.detach().flatten().clone()


def _takes_rgb(preprocessor: Any) -> bool:
    """Whether the preprocessor swaps the channels of the images, by MMPretrain's or MMEngine's name for it."""
    return bool(getattr(preprocessor, 'to_rgb', False) or getattr(preprocessor, '_channel_conversion', False))
