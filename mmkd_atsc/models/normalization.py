"""One batch of images for networks with different input normalisations."""
from typing import Any

import torch
from torch import Tensor, nn


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
        source_mean, source_std = statistics(source)
        target_mean, target_std = statistics(target)
        self.flip = takes_rgb(source) != takes_rgb(target)
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


def statistics(preprocessor: Any) -> tuple[Tensor, Tensor]:
    mean, std = getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)
    if mean is None or std is None:
        return torch.zeros(3), torch.ones(3)
    return mean.detach().flatten().clone(), std.detach().flatten().clone()


def takes_rgb(preprocessor: Any) -> bool:
    """Whether the preprocessor swaps the channels of the images, by MMPretrain's or MMEngine's name for it."""
    return bool(getattr(preprocessor, 'to_rgb', False) or getattr(preprocessor, '_channel_conversion', False))
