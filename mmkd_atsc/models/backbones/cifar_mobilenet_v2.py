"""MobileNetV2 for 32x32 images: mobilenetv2 (width 0.5) and mobilenetv2x2 (width 1.0)."""
from collections.abc import Sequence

from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_flag, check_number
from mmkd_atsc.registry import MODELS

from .staged_backbone import KAIMING_INIT, InitCfg, StagedBackbone

# Width, blocks and stride of the seven stages. Stem and second stage differ from the ImageNet network: the image is
# halved four times instead of five, so that 32x32 ends at 2x2.
STAGES = ((16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, linear 1x1; the sum with the input where the shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand_ratio: int) -> None:
        super().__init__()
        hidden = in_channels * expand_ratio
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False), nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
        self.has_residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + x if self.has_residual else self.conv(x)


@MODELS.register_module()
class CIFARMobileNetV2(StagedBackbone):
    """`MobileNetV2 <https://arxiv.org/abs/1801.04381>`_ as the distillation literature trains it on CIFAR.

    It has ReLU for ReLU6, widths that are truncated and not rounded to multiples of 8, and an expansion convolution in
    the first block too. Parameters: ``conv1``, ``block0`` to ``block6``, ``conv2``. Seven stages (their outputs are
    linear, as the paper has it), and the closing 1x1 convolution as an eighth.

    Args:
        widen_factor: Multiplies the widths; the closing convolution never has fewer than 1280 channels.
        expand_ratio: Of the hidden to the input channels in every block but the first.
        with_last_conv: Without it the network ends at its seventh stage and has no parameter beyond it.
        out_indices: See :class:`StagedBackbone`, as the arguments below.
        frozen_stages: -1 none, 0 the stem, k the first k stages too.
        norm_eval: Keep batch norm in eval mode.
        init_cfg: MMEngine's initialisation config.

    >>> import torch
    >>> image = torch.rand(1, 3, 32, 32)
    >>> [tuple(feature.shape) for feature in CIFARMobileNetV2(widen_factor=0.5, out_indices=(6, 7))(image)]
    [(1, 160, 2, 2), (1, 1280, 2, 2)]
    >>> [tuple(feature.shape) for feature in CIFARMobileNetV2(widen_factor=0.5, with_last_conv=False)(image)]
    [(1, 160, 2, 2)]
    """

    def __init__(self, widen_factor: float = 1.0, expand_ratio: int = 6, with_last_conv: bool = True,
                 out_indices: Sequence[int] = (-1, ), frozen_stages: int = -1, norm_eval: bool = False,
                 init_cfg: InitCfg = KAIMING_INIT) -> None:
        # Below 1/16 the first stage would have no channel left.
        check_number('widen_factor', widen_factor, low=1 / 16)
        check_number('expand_ratio', expand_ratio, low=1, integer=True)
        channels = int(32 * widen_factor)
        stem = dict(conv1=_conv_bn_relu(3, channels, kernel=3, stride=2))
        stages: list[dict[str, nn.Module]] = []
        for index, (width, blocks, stride) in enumerate(STAGES):
            layers = []
            for block in range(blocks):
                out_channels = int(width * widen_factor)
                layers.append(InvertedResidual(channels, out_channels, stride if block == 0 else 1,
                                               expand_ratio=1 if index == 0 else expand_ratio))
                channels = out_channels
            stages.append({f'block{index}': nn.Sequential(*layers)})
        if check_flag('with_last_conv', with_last_conv):
            stages.append(dict(conv2=_conv_bn_relu(channels, int(1280 * max(widen_factor, 1)), kernel=1)))
        super().__init__(stem, stages, out_indices, frozen_stages, norm_eval, init_cfg)


def _conv_bn_relu(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
                         nn.BatchNorm2d(out_channels), nn.ReLU())
