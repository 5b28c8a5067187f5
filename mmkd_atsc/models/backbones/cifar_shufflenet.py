"""ShuffleNets for 32x32 images: shufflenetv1 (three groups), shufflenetv2 (width 1.0) and shufflenetv2x1_5."""
from functools import partial
from typing import Any

import torch
from mmpretrain.models.utils import channel_shuffle
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_choice, check_flag
from mmkd_atsc.registry import MODELS

from .staged_backbone import StagedBackbone, conv_bn, layers, stem

STEM_WIDTH, LAST_WIDTH = 24, 1024
BLOCKS = (4, 8, 4)
V1_WIDTHS = {1: (144, 288, 576), 2: (200, 400, 800), 3: (240, 480, 960)}
V2_WIDTHS = {0.5: (48, 96, 192), 1.0: (116, 232, 464), 1.5: (176, 352, 704)}


class ShuffleUnit(nn.Module):
    """Grouped 1x1, shuffle, 3x3 depthwise, grouped 1x1; with stride 2 the pooled input is joined instead of added."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, groups: int) -> None:
        super().__init__()
        first_groups = 1 if in_channels == STEM_WIDTH else groups  # the stem's channels are too few to divide
        own_channels = out_channels - in_channels if stride == 2 else out_channels
        hidden = own_channels // 4
        self.groups = first_groups
        self.conv1, self.bn1 = conv_bn(in_channels, hidden, groups=first_groups)
        self.relu1 = nn.ReLU()
        self.conv2, self.bn2 = conv_bn(hidden, hidden, 3, stride, groups=hidden)
        self.relu2 = nn.ReLU()
        self.conv3, self.bn3 = conv_bn(hidden, own_channels, groups=groups)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = channel_shuffle(self.relu1(self.bn1(self.conv1(x))), self.groups)
        out = self.bn3(self.conv3(self.relu2(self.bn2(self.conv2(out)))))
        return self.relu3(out + x if self.pool is None else torch.cat([out, self.pool(x)], dim=1))


@MODELS.register_module()
class CIFARShuffleNetV1(StagedBackbone):
    """`ShuffleNet <https://arxiv.org/abs/1707.01083>`_ as the distillation literature trains it on CIFAR.

    The stem is a 1x1 convolution that keeps the resolution, and there is a ReLU after the depthwise convolution. Three
    stages of 16, 8 and 4 pixels a side on 32x32 images.

    Args:
        groups: Of the 1x1 convolutions, 1 to 3; the widths follow the paper's table.
        init_cfg: Default: PyTorch's own initialisation, as in the literature.
        kwargs: ``out_indices`` of :class:`StagedBackbone`.
    """

    def __init__(self, groups: int = 3, init_cfg: Any = None, **kwargs: Any) -> None:
        check_choice('groups', groups, V1_WIDTHS)
        widths = (STEM_WIDTH, *V1_WIDTHS[groups])
        super().__init__(stem(STEM_WIDTH, kernel=1),
                         layers(partial(ShuffleUnit, groups=groups), BLOCKS, widths, first_stride=2),
                         init_cfg=init_cfg, **kwargs)


class SplitUnit(nn.Module):
    """Half of the channels pass, the other half is convolved; then both are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1, self.bn1 = conv_bn(half, half)
        self.relu1 = nn.ReLU()
        self.conv2, self.bn2 = conv_bn(half, half, 3, groups=half)
        self.conv3, self.bn3 = conv_bn(half, half)
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        kept, out = x.chunk(2, dim=1)
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(out)))))
        out = self.relu3(self.bn3(self.conv3(out)))
        return channel_shuffle(torch.cat([kept, out], dim=1), 2)


class DownUnit(nn.Module):
    """Both branches convolve all channels with stride 2: depthwise and 1x1 (1, 2), 1x1, depthwise and 1x1 (3, 4, 5)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv1, self.bn1 = conv_bn(in_channels, in_channels, 3, stride=2, groups=in_channels)
        self.conv2, self.bn2 = conv_bn(in_channels, half)
        self.relu2 = nn.ReLU()
        self.conv3, self.bn3 = conv_bn(in_channels, half)
        self.relu3 = nn.ReLU()
        self.conv4, self.bn4 = conv_bn(half, half, 3, stride=2, groups=half)
        self.conv5, self.bn5 = conv_bn(half, half)
        self.relu5 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        left = self.relu2(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = self.relu3(self.bn3(self.conv3(x)))
        right = self.relu5(self.bn5(self.conv5(self.bn4(self.conv4(right)))))
        return channel_shuffle(torch.cat([left, right], dim=1), 2)


def _split_or_down(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    return DownUnit(in_channels, out_channels) if stride == 2 else SplitUnit(out_channels)


@MODELS.register_module()
class CIFARShuffleNetV2(StagedBackbone):
    """`ShuffleNet V2 <https://arxiv.org/abs/1807.11164>`_ as the distillation literature trains it on CIFAR.

    The stem is a 1x1 convolution that keeps the resolution. Three stages of 16, 8 and 4 pixels a side on 32x32 images,
    and the closing 1x1 convolution to 1024 channels as a fourth.

    Args:
        widen_factor: 0.5, 1.0 or 1.5; the widths follow the paper's table.
        with_last_conv: Without it the network ends at its third stage and has no parameter beyond it.
        init_cfg: Default: PyTorch's own initialisation, as in the literature.
        kwargs: ``out_indices`` of :class:`StagedBackbone`.
    """

    def __init__(self, widen_factor: float = 1.0, with_last_conv: bool = True, init_cfg: Any = None,
                 **kwargs: Any) -> None:
        check_choice('widen_factor', widen_factor, V2_WIDTHS)
        widths = (STEM_WIDTH, *V2_WIDTHS[widen_factor])
        first_layers, stages = stem(STEM_WIDTH, kernel=1), layers(_split_or_down, BLOCKS, widths, first_stride=2)
        if check_flag('with_last_conv', with_last_conv):
            conv, bn = conv_bn(widths[-1], LAST_WIDTH)
            stages.append(dict(conv2=conv, bn2=bn, relu2=nn.ReLU()))
        super().__init__(first_layers, stages, init_cfg=init_cfg, **kwargs)
