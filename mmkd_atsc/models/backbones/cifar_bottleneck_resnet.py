"""ResNet of bottlenecks for 32x32 images: the resnet50 of the distillation literature."""
from collections.abc import Sequence

from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_choice
from mmkd_atsc.registry import MODELS

from .staged_backbone import KAIMING_INIT, InitCfg, StagedBackbone

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class Bottleneck(nn.Module):
    """1x1, 3x3 (which has the stride) and 1x1 to four times the width; the last ReLU comes after the sum."""
    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1, self.bn1 = nn.Conv2d(in_channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3, self.bn3 = nn.Conv2d(width, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        # Not in place: the batch norm's output may be recorded.
        return self.relu3(self.bn3(self.conv3(out)) + identity)


@MODELS.register_module()
class CIFARBottleneckResNet(StagedBackbone):
    """ResNet-50, 101 or 152 with a 3x3 stem of stride 1 and no pooling.

    Parameters: ``conv1``, ``bn1``, ``layer1`` to ``layer4``, named as in MMPretrain's ``ResNet_CIFAR``, whose model zoo
    checkpoints load as they are. Four stages of 32, 16, 8 and 4 pixels a side on 32x32 images, after the ReLU.

    Args:
        depth: 50, 101 or 152.
        out_indices: See :class:`StagedBackbone`, as the arguments below.
        frozen_stages: -1 none, 0 the stem, k the first k stages too.
        norm_eval: Keep batch norm in eval mode.
        init_cfg: MMEngine's initialisation config.

    >>> import torch
    >>> [tuple(feature.shape) for feature in CIFARBottleneckResNet(50)(torch.rand(1, 3, 32, 32))]
    [(1, 2048, 4, 4)]
    """

    def __init__(self, depth: int = 50, out_indices: Sequence[int] = (-1, ), frozen_stages: int = -1,
                 norm_eval: bool = False, init_cfg: InitCfg = KAIMING_INIT) -> None:
        check_choice('depth', depth, BLOCKS)
        stem = dict(conv1=nn.Conv2d(3, 64, 3, padding=1, bias=False), bn1=nn.BatchNorm2d(64), relu=nn.ReLU())
        stages, channels = [], 64
        for index, blocks in enumerate(BLOCKS[depth]):
            width = 64 * 2**index
            first = Bottleneck(channels, width, stride=1 if index == 0 else 2)
            channels = width * Bottleneck.expansion
            stages.append({f'layer{index + 1}': nn.Sequential(
                first, *(Bottleneck(channels, width) for _ in range(blocks - 1)))})
        super().__init__(stem, stages, out_indices, frozen_stages, norm_eval, init_cfg)
