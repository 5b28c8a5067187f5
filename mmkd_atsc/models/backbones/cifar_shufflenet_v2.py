"""ShuffleNetV2 for 32x32 images: shufflenetv2 (width 1.0) and shufflenetv2x1_5."""
from collections.abc import Sequence

import torch
from mmpretrain.models.utils import channel_shuffle
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_choice, check_flag
from mmkd_atsc.registry import MODELS

from .staged_backbone import InitCfg, StagedBackbone

STEM_WIDTH = 24
BLOCKS = (4, 8, 4)
WIDTHS = {0.5: (48, 96, 192), 1.0: (116, 232, 464), 1.5: (176, 352, 704)}
LAST_WIDTH = 1024


class SplitUnit(nn.Module):
    """Half of the channels pass, the other half is convolved; then both are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1, self.bn1, self.relu1 = nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3, self.bn3, self.relu3 = nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()

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
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, 2, padding=1, groups=in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2, self.bn2, self.relu2 = nn.Conv2d(in_channels, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()
        self.conv3, self.bn3, self.relu3 = nn.Conv2d(in_channels, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()
        self.conv4 = nn.Conv2d(half, half, 3, 2, padding=1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5, self.bn5, self.relu5 = nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        left = self.relu2(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = self.relu3(self.bn3(self.conv3(x)))
        right = self.relu5(self.bn5(self.conv5(self.bn4(self.conv4(right)))))
        return channel_shuffle(torch.cat([left, right], dim=1), 2)


@MODELS.register_module()
class CIFARShuffleNetV2(StagedBackbone):
    """`ShuffleNet V2 <https://arxiv.org/abs/1807.11164>`_ as the distillation literature trains it on CIFAR.

    The stem is a 1x1 convolution that keeps the resolution. Parameters: ``conv1``, ``bn1``, ``layer1`` to ``layer3``,
    ``conv2``, ``bn2``. Three stages of 16, 8 and 4 pixels a side on 32x32 images, and the closing 1x1 convolution to
    1024 channels as a fourth.

    Args:
        widen_factor: 0.5, 1.0 or 1.5; the widths follow the paper's table.
        with_last_conv: Without it the network ends at its third stage and has no parameter beyond it.
        out_indices: See :class:`StagedBackbone`, as the arguments below.
        frozen_stages: -1 none, 0 the stem, k the first k stages too.
        norm_eval: Keep batch norm in eval mode.
        init_cfg: MMEngine's initialisation config. Default: PyTorch's own initialisation, as in the literature.

    >>> import torch
    >>> image = torch.rand(1, 3, 32, 32)
    >>> [tuple(feature.shape) for feature in CIFARShuffleNetV2(out_indices=(2, 3))(image)]
    [(1, 464, 4, 4), (1, 1024, 4, 4)]
    """

    def __init__(self, widen_factor: float = 1.0, with_last_conv: bool = True, out_indices: Sequence[int] = (-1, ),
                 frozen_stages: int = -1, norm_eval: bool = False, init_cfg: InitCfg = None) -> None:
        check_choice('widen_factor', widen_factor, WIDTHS)
        stem = dict(conv1=nn.Conv2d(3, STEM_WIDTH, 1, bias=False), bn1=nn.BatchNorm2d(STEM_WIDTH), relu=nn.ReLU())
        stages: list[dict[str, nn.Module]] = []
        channels = STEM_WIDTH
        for index, (width, blocks) in enumerate(zip(WIDTHS[widen_factor], BLOCKS)):
            units = [DownUnit(channels, width)] + [SplitUnit(width) for _ in range(blocks - 1)]
            stages.append({f'layer{index + 1}': nn.Sequential(*units)})
            channels = width
        if check_flag('with_last_conv', with_last_conv):
            stages.append(dict(conv2=nn.Conv2d(channels, LAST_WIDTH, 1, bias=False), bn2=nn.BatchNorm2d(LAST_WIDTH),
                               relu2=nn.ReLU()))
        super().__init__(stem, stages, out_indices, frozen_stages, norm_eval, init_cfg)
