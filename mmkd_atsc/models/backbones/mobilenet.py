"""MobileNetV2 for 32x32 images (mobilenetv2, mobilenetv2x2), and the literature's MobileNet for ImageNet."""
from functools import partial
from typing import Any

from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_flag, check_number
from mmkd_atsc.registry import MODELS

from .staged_backbone import StagedBackbone, conv_bn, stack

# Width, blocks and stride of the seven stages. Stem and second stage differ from the ImageNet network: the image is
# halved four times instead of five, so that 32x32 ends at 2x2.
V2_STAGES = ((16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
# Widths of the separable convolutions, counted from 1, and those that begin a stage and halve the image.
V1_WIDTHS, V1_HALVING = (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024), (2, 4, 6, 12)


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, linear 1x1; the sum with the input where the shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand_ratio: int) -> None:
        super().__init__()
        hidden = in_channels * expand_ratio
        self.conv = nn.Sequential(
            *conv_bn(in_channels, hidden), nn.ReLU(),
            *conv_bn(hidden, hidden, 3, stride, groups=hidden), nn.ReLU(),
            *conv_bn(hidden, out_channels))
        self.has_residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + x if self.has_residual else self.conv(x)


@MODELS.register_module()
class CIFARMobileNetV2(StagedBackbone):
    """`MobileNetV2 <https://arxiv.org/abs/1801.04381>`_ as the distillation literature trains it on CIFAR.

    It has ReLU for ReLU6, widths that are truncated and not rounded to multiples of 8, and an expansion convolution in
    the first block too. Seven stages, whose outputs are linear, and the closing 1x1 convolution as an eighth.

    Args:
        widen_factor: Multiplies the widths; the closing convolution never has fewer than 1280 channels.
        expand_ratio: Of the hidden to the input channels in every block but the first.
        with_last_conv: Without it the network ends at its seventh stage and has no parameter beyond it.
        kwargs: ``out_indices``, ``init_cfg`` of :class:`StagedBackbone`.
    """

    def __init__(self, widen_factor: float = 1.0, expand_ratio: int = 6, with_last_conv: bool = True,
                 **kwargs: Any) -> None:
        check_number('widen_factor', widen_factor, low=1 / 16)
        check_number('expand_ratio', expand_ratio, low=1, integer=True)
        channels = int(32 * widen_factor)
        stem: dict[str, nn.Module] = dict(conv1=nn.Sequential(*conv_bn(3, channels, 3, stride=2), nn.ReLU()))
        stages: list[dict[str, nn.Module]] = []
        for index, (width, blocks, stride) in enumerate(V2_STAGES):
            block = partial(InvertedResidual, expand_ratio=1 if index == 0 else expand_ratio)
            out_channels = int(width * widen_factor)
            stages.append({f'block{index}': stack(block, blocks, channels, out_channels, stride)})
            channels = out_channels
        if check_flag('with_last_conv', with_last_conv):
            closing = conv_bn(channels, int(1280 * max(widen_factor, 1)))
            stages.append(dict(conv2=nn.Sequential(*closing, nn.ReLU())))
        super().__init__(stem, stages, **kwargs)


@MODELS.register_module()
class MobileNetV1(StagedBackbone):
    """`MobileNets <https://arxiv.org/abs/1704.04861>`_, the student of the literature's ResNet-50 to MobileNet pair.

    Five stages of 112, 56, 28, 14 and 7 pixels a side on 224x224 images, after the ReLU.

    Args:
        widen_factor: Multiplies all widths.
        init_cfg: Default: PyTorch's own initialisation, as in the literature.
        kwargs: ``out_indices`` of :class:`StagedBackbone`.
    """

    def __init__(self, widen_factor: float = 1.0, init_cfg: Any = None, **kwargs: Any) -> None:
        check_number('widen_factor', widen_factor, low=1 / 32)
        channels = int(32 * widen_factor)
        stem: dict[str, nn.Module] = dict(block0=nn.Sequential(*conv_bn(3, channels, 3, stride=2), nn.ReLU()))
        stages: list[dict[str, nn.Module]] = [{}]
        for number, width in enumerate(V1_WIDTHS, start=1):
            if number in V1_HALVING:
                stages.append({})
            out_channels = int(width * widen_factor)
            stages[-1][f'block{number}'] = nn.Sequential(
                *conv_bn(channels, channels, 3, 2 if number in V1_HALVING else 1, groups=channels), nn.ReLU(),
                *conv_bn(channels, out_channels), nn.ReLU())
            channels = out_channels
        super().__init__(stem, stages, init_cfg=init_cfg, **kwargs)
