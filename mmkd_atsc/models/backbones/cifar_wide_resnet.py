"""Wide ResNet for 32x32 images: wrn_16_1, wrn_16_2, wrn_40_1, wrn_40_2."""
from collections.abc import Sequence

from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.registry import MODELS

from .staged_backbone import KAIMING_INIT, InitCfg, StagedBackbone, blocks_per_stage


class PreActBlock(nn.Module):
    """Batch norm and ReLU before each 3x3 convolution; nothing after the sum."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()
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
class CIFARWideResNet(StagedBackbone):
    """`Wide Residual Networks <https://arxiv.org/abs/1605.07146>`_ for CIFAR, without dropout.

    Parameters: ``conv1``, ``layer1`` to ``layer3``, ``bn``. Three stages; the closing batch norm and ReLU belong to the
    third, so its features are activated. The first two stages end at a sum, which the next stage normalises itself.

    Args:
        depth: 6n+4 layers, n blocks a stage.
        widen_factor: Multiplies the stages' widths 16, 32 and 64.
        out_indices: See :class:`StagedBackbone`, as the arguments below.
        frozen_stages: -1 none, 0 the stem, k the first k stages too.
        norm_eval: Keep batch norm in eval mode.
        init_cfg: MMEngine's initialisation config.

    >>> import torch
    >>> [tuple(feature.shape) for feature in CIFARWideResNet(16, 2)(torch.rand(1, 3, 32, 32))]
    [(1, 128, 8, 8)]
    """

    def __init__(self, depth: int, widen_factor: int = 1, out_indices: Sequence[int] = (-1, ), frozen_stages: int = -1,
                 norm_eval: bool = False, init_cfg: InitCfg = KAIMING_INIT) -> None:
        blocks = blocks_per_stage(depth, layers_per_step=6, extra_layers=4)
        check_number('widen_factor', widen_factor, low=1, integer=True)
        widths = (16, 16 * widen_factor, 32 * widen_factor, 64 * widen_factor)
        stages: list = [_stage(i, widths[i], widths[i + 1], blocks) for i in range(3)]
        stages[-1].update(bn=nn.BatchNorm2d(widths[-1]), relu=nn.ReLU())
        stem = dict(conv1=nn.Conv2d(3, widths[0], 3, padding=1, bias=False))
        super().__init__(stem, stages, out_indices, frozen_stages, norm_eval, init_cfg)


def _stage(index: int, in_channels: int, out_channels: int, blocks: int) -> dict[str, nn.Module]:
    first = PreActBlock(in_channels, out_channels, stride=1 if index == 0 else 2)
    rest = [PreActBlock(out_channels, out_channels) for _ in range(blocks - 1)]
    return {f'layer{index + 1}': nn.Sequential(first, *rest)}
