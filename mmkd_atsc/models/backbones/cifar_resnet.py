"""ResNets and wide ResNets for 32x32 images, named resnet8 to resnet110x2, resnet50 and wrn_16_1 to wrn_40_2."""
from collections.abc import Sequence
from typing import Any

from mmpretrain.models.backbones.resnet import Bottleneck
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_choice, check_number
from mmkd_atsc.registry import MODELS

from .staged_backbone import StagedBackbone, blocks_per_stage, conv_bn, layers, stem

BOTTLENECKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the last ReLU comes after the sum."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(in_channels, out_channels, 3, stride)
        self.relu1 = nn.ReLU()
        self.conv2, self.bn2 = conv_bn(out_channels, out_channels, 3)
        self.downsample = _shortcut(in_channels, out_channels, stride)
        # Not one ReLU used twice: a recorder tells modules apart, not calls.
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        # Not in place: the batch norm's output may be recorded.
        return self.relu2(self.bn2(self.conv2(out)) + self.downsample(x))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(*conv_bn(in_channels, out_channels, stride=stride))


def _bottleneck(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    return Bottleneck(in_channels, out_channels, stride=stride,
                      downsample=_shortcut(in_channels, out_channels, stride))


class PreActBlock(nn.Module):
    """Batch norm and ReLU before each 3x3 convolution; nothing after the sum."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.relu1 = nn.BatchNorm2d(in_channels), nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2, self.relu2 = nn.BatchNorm2d(out_channels), nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.relu1(self.bn1(x))
        # A shortcut with weights starts from the activated input, one without from the input itself.
        identity = x if self.shortcut is None else self.shortcut(activated)
        return self.conv2(self.relu2(self.bn2(self.conv1(activated)))) + identity


@MODELS.register_module()
class CIFARResNet(StagedBackbone):
    """The CIFAR ResNet of `Deep Residual Learning <https://arxiv.org/abs/1512.03385>`_, with 1x1 convolutions as
    shortcuts where the shape changes, as in the distillation literature.

    Three stages; on 32x32 images they give 32x32, 16x16 and 8x8 features, after the ReLU.

    Args:
        depth: 6n+2 layers, n blocks a stage.
        widths: Channels of the stem and of the three stages.
        kwargs: ``out_indices``, ``init_cfg`` of :class:`StagedBackbone`.

    >>> import torch
    >>> net = CIFARResNet(depth=8, widths=(32, 64, 128, 256), out_indices=(0, 2))
    >>> [tuple(feature.shape) for feature in net(torch.rand(1, 3, 32, 32))]
    [(1, 64, 32, 32), (1, 256, 8, 8)]
    """

    def __init__(self, depth: int = 32, widths: Sequence[int] = (16, 16, 32, 64), **kwargs: Any) -> None:
        blocks = blocks_per_stage(depth, extra_layers=2)
        if len(widths) != 4:
            raise ValueError(f'widths={widths!r} must be 4 numbers')
        super().__init__(stem(widths[0], kernel=3), layers(BasicBlock, [blocks] * 3, widths), **kwargs)


@MODELS.register_module()
class CIFARBottleneckResNet(StagedBackbone):
    """ResNet-50, 101 or 152 with a 3x3 stem of stride 1 and no pooling.

    Blocks and names are those of MMPretrain's ``ResNet_CIFAR``, whose model zoo checkpoints load as they are. Four
    stages of 32, 16, 8 and 4 pixels a side on 32x32 images, after the ReLU.

    Args:
        depth: 50, 101 or 152.
        kwargs: ``out_indices``, ``init_cfg`` of :class:`StagedBackbone`.
    """

    def __init__(self, depth: int = 50, **kwargs: Any) -> None:
        blocks = BOTTLENECKS[check_choice('depth', depth, BOTTLENECKS)]
        super().__init__(stem(64, kernel=3), layers(_bottleneck, blocks, (64, 256, 512, 1024, 2048)), **kwargs)


@MODELS.register_module()
class CIFARWideResNet(StagedBackbone):
    """`Wide Residual Networks <https://arxiv.org/abs/1605.07146>`_ for CIFAR, without dropout.

    Three stages; the closing batch norm and ReLU belong to the third, so its features are activated. The first two end
    at a sum, which the next stage normalises itself.

    Args:
        depth: 6n+4 layers, n blocks a stage.
        widen_factor: Multiplies the stages' widths 16, 32 and 64.
        kwargs: ``out_indices``, ``init_cfg`` of :class:`StagedBackbone`.
    """

    def __init__(self, depth: int = 40, widen_factor: int = 1, **kwargs: Any) -> None:
        blocks = blocks_per_stage(depth, extra_layers=4)
        check_number('widen_factor', widen_factor, low=1, integer=True)
        widths = (16, 16 * widen_factor, 32 * widen_factor, 64 * widen_factor)
        stages = layers(PreActBlock, [blocks] * 3, widths)
        stages[-1].update(bn=nn.BatchNorm2d(widths[-1]), relu=nn.ReLU())
        super().__init__(dict(conv1=nn.Conv2d(3, widths[0], 3, padding=1, bias=False)), stages, **kwargs)
