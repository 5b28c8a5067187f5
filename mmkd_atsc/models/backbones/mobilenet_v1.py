"""MobileNet for ImageNet: the student of the literature's ResNet-50 to MobileNet pair."""
from collections.abc import Sequence

from torch import nn

from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.registry import MODELS

from .staged_backbone import InitCfg, StagedBackbone

# Widths of the separable convolutions of each stage; the first of every stage but the first halves the image.
STAGES = ((64, ), (128, 128), (256, 256), (512, ) * 6, (1024, 1024))


@MODELS.register_module()
class MobileNetV1(StagedBackbone):
    """`MobileNets <https://arxiv.org/abs/1704.04861>`_.

    Parameters: ``block0`` (the stem) to ``block13``, numbered through. Five stages of 112, 56, 28, 14 and 7 pixels a
    side on 224x224 images, after the ReLU.

    Args:
        widen_factor: Multiplies all widths.
        out_indices: See :class:`StagedBackbone`, as the arguments below.
        frozen_stages: -1 none, 0 the stem, k the first k stages too.
        norm_eval: Keep batch norm in eval mode.
        init_cfg: MMEngine's initialisation config. Default: PyTorch's own initialisation, as in the literature.

    >>> import torch
    >>> net = MobileNetV1(widen_factor=0.25, out_indices=(3, 4))
    >>> [tuple(feature.shape) for feature in net(torch.rand(1, 3, 64, 64))]
    [(1, 128, 4, 4), (1, 256, 2, 2)]
    """

    def __init__(self, widen_factor: float = 1.0, out_indices: Sequence[int] = (-1, ), frozen_stages: int = -1,
                 norm_eval: bool = False, init_cfg: InitCfg = None) -> None:
        # Below 1/32 the stem would have no channel left.
        check_number('widen_factor', widen_factor, low=1 / 32)
        channels = int(32 * widen_factor)
        stem = dict(block0=nn.Sequential(nn.Conv2d(3, channels, 3, 2, padding=1, bias=False), nn.BatchNorm2d(channels),
                                         nn.ReLU()))
        stages: list[dict[str, nn.Module]] = []
        number = 0
        for index, widths in enumerate(STAGES):
            stage: dict[str, nn.Module] = {}
            for position, width in enumerate(widths):
                number += 1
                out_channels = int(width * widen_factor)
                stride = 2 if index > 0 and position == 0 else 1
                stage[f'block{number}'] = _separable(channels, out_channels, stride)
                channels = out_channels
            stages.append(stage)
        super().__init__(stem, stages, out_indices, frozen_stages, norm_eval, init_cfg)


def _separable(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels), nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU())
