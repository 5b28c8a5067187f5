"""ShuffleNetV1 for 32x32 images: shufflenetv1 (three groups)."""
from collections.abc import Sequence

import torch
from mmpretrain.models.utils import channel_shuffle
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_choice
from mmkd_atsc.registry import MODELS

from .staged_backbone import InitCfg, StagedBackbone

STEM_WIDTH = 24
BLOCKS = (4, 8, 4)
WIDTHS = {1: (144, 288, 576), 2: (200, 400, 800), 3: (240, 480, 960)}


class ShuffleUnit(nn.Module):
    """Grouped 1x1, shuffle, 3x3 depthwise, grouped 1x1; with stride 2 the pooled input is joined instead of added.

    Args:
        in_channels: Of the input.
        out_channels: Of the output, the joined input included.
        stride: 1 or 2.
        first_groups: Groups of the first convolution (1 after the stem, whose 24 channels are too few to divide).
        groups: Groups of the last convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, first_groups: int, groups: int) -> None:
        super().__init__()
        own_channels = out_channels - in_channels if stride == 2 else out_channels
        hidden = own_channels // 4
        self.groups = first_groups
        self.conv1 = nn.Conv2d(in_channels, hidden, 1, groups=first_groups, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(hidden, own_channels, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(own_channels)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = channel_shuffle(self.relu1(self.bn1(self.conv1(x))), self.groups)
        out = self.bn3(self.conv3(self.relu2(self.bn2(self.conv2(out)))))
        return self.relu3(out + x if self.pool is None else torch.cat([out, self.pool(x)], dim=1))


@MODELS.register_module()
class CIFARShuffleNetV1(StagedBackbone):
    """`ShuffleNet <https://arxiv.org/abs/1707.01083>`_ as the distillation literature trains it on CIFAR.

    The stem is a 1x1 convolution that keeps the resolution, and there is a ReLU after the depthwise convolution.
    Parameters: ``conv1``, ``bn1``, ``layer1`` to ``layer3``. Three stages of 16, 8 and 4 pixels a side on 32x32 images.

    Args:
        groups: Of the 1x1 convolutions, 1 to 3; the widths follow the paper's table.
        out_indices: See :class:`StagedBackbone`, as the arguments below.
        frozen_stages: -1 none, 0 the stem, k the first k stages too.
        norm_eval: Keep batch norm in eval mode.
        init_cfg: MMEngine's initialisation config. Default: PyTorch's own initialisation, as in the literature.

    >>> import torch
    >>> [tuple(feature.shape) for feature in CIFARShuffleNetV1()(torch.rand(1, 3, 32, 32))]
    [(1, 960, 4, 4)]
    """

    def __init__(self, groups: int = 3, out_indices: Sequence[int] = (-1, ), frozen_stages: int = -1,
                 norm_eval: bool = False, init_cfg: InitCfg = None) -> None:
        check_choice('groups', groups, WIDTHS)
        stem = dict(conv1=nn.Conv2d(3, STEM_WIDTH, 1, bias=False), bn1=nn.BatchNorm2d(STEM_WIDTH), relu=nn.ReLU())
        stages, channels = [], STEM_WIDTH
        for index, (width, blocks) in enumerate(zip(WIDTHS[groups], BLOCKS)):
            first = ShuffleUnit(channels, width, stride=2, first_groups=1 if index == 0 else groups, groups=groups)
            rest = [ShuffleUnit(width, width, 1, groups, groups) for _ in range(blocks - 1)]
            stages.append({f'layer{index + 1}': nn.Sequential(first, *rest)})
            channels = width
        super().__init__(stem, stages, out_indices, frozen_stages, norm_eval, init_cfg)
