"""ResNet of basic blocks for 32x32 images: resnet8 to resnet116, resnet8x4, resnet32x4, resnet110x2."""
from collections.abc import Sequence

from torch import Tensor, nn

from mmkd_atsc.registry import MODELS

from .staged_backbone import KAIMING_INIT, InitCfg, StagedBackbone, blocks_per_stage, check_positive_integers


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the last ReLU comes after the sum."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))
        # Not one ReLU used twice: a recorder tells modules apart, not calls.
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu1(self.bn1(self.conv1(x)))
        # Not in place: the batch norm's output may be recorded.
        return self.relu2(self.bn2(self.conv2(out)) + identity)


@MODELS.register_module()
class CIFARResNet(StagedBackbone):
    """The CIFAR ResNet of `Deep Residual Learning <https://arxiv.org/abs/1512.03385>`_, with 1x1 convolutions as
    shortcuts where the shape changes, as the distillation literature has it.

    Parameters: ``conv1``, ``bn1``, ``layer1`` to ``layer3``. Three stages; on 32x32 images they give 32x32, 16x16 and
    8x8 features, after the ReLU.

    Args:
        depth: 6n+2 layers, n blocks a stage.
        widths: Channels of the stem and of the three stages.
        out_indices: See :class:`StagedBackbone`, as the arguments below.
        frozen_stages: -1 none, 0 the stem, k the first k stages too.
        norm_eval: Keep batch norm in eval mode.
        init_cfg: MMEngine's initialisation config.

    >>> import torch
    >>> net = CIFARResNet(depth=8, widths=(32, 64, 128, 256), out_indices=(0, 2))
    >>> [tuple(feature.shape) for feature in net(torch.rand(1, 3, 32, 32))]
    [(1, 64, 32, 32), (1, 256, 8, 8)]
    """

    def __init__(self, depth: int, widths: Sequence[int] = (16, 16, 32, 64), out_indices: Sequence[int] = (-1, ),
                 frozen_stages: int = -1, norm_eval: bool = False, init_cfg: InitCfg = KAIMING_INIT) -> None:
        blocks = blocks_per_stage(depth, layers_per_step=6, extra_layers=2)
        widths = check_positive_integers('widths', widths, 4)
        stem = dict(conv1=nn.Conv2d(3, widths[0], 3, padding=1, bias=False), bn1=nn.BatchNorm2d(widths[0]),
                    relu=nn.ReLU())
        stages = [{f'layer{i + 1}': _make_layer(widths[i], widths[i + 1], blocks, stride=1 if i == 0 else 2)}
                  for i in range(3)]
        super().__init__(stem, stages, out_indices, frozen_stages, norm_eval, init_cfg)


def _make_layer(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [BasicBlock(out_channels, out_channels) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(in_channels, out_channels, stride), *rest)
