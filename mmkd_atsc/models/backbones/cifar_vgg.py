"""VGG for 32x32 images: vgg8, vgg11, vgg13, vgg16, vgg19, all with batch norm and a single linear classifier."""
from collections.abc import Sequence

from torch import nn

from mmkd_atsc.errors.checks import check_choice
from mmkd_atsc.registry import MODELS

from .staged_backbone import KAIMING_INIT, InitCfg, StagedBackbone

WIDTHS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


@MODELS.register_module()
class CIFARVGG(StagedBackbone):
    """`VGG <https://arxiv.org/abs/1409.1556>`_ as the distillation literature trains it on CIFAR.

    Parameters: ``block0`` to ``block4``. Five stages of 3x3 convolutions with 2x2 max pooling before the second, third
    and fourth: 32, 16, 8, 4 and 4 pixels a side on 32x32 images, after the ReLU. There is no stem:
    ``frozen_stages=0`` freezes nothing.

    Args:
        depth: 8, 11, 13, 16 or 19, counted with the three linear layers that the original had.
        out_indices: See :class:`StagedBackbone`, as the arguments below.
        frozen_stages: -1 or 0 none, k the first k stages.
        norm_eval: Keep batch norm in eval mode.
        init_cfg: MMEngine's initialisation config.

    >>> import torch
    >>> [tuple(feature.shape) for feature in CIFARVGG(8, out_indices=(1, 4))(torch.rand(1, 3, 32, 32))]
    [(1, 128, 16, 16), (1, 512, 4, 4)]
    """

    def __init__(self, depth: int, out_indices: Sequence[int] = (-1, ), frozen_stages: int = -1,
                 norm_eval: bool = False, init_cfg: InitCfg = KAIMING_INIT) -> None:
        check_choice('depth', depth, CONVOLUTIONS)
        stages = [_stage(index, convolutions) for index, convolutions in enumerate(CONVOLUTIONS[depth])]
        super().__init__({}, stages, out_indices, frozen_stages, norm_eval, init_cfg)


def _stage(index: int, convolutions: int) -> dict[str, nn.Module]:
    channels = 3 if index == 0 else WIDTHS[index - 1]
    layers = []
    for _ in range(convolutions):
        layers += [nn.Conv2d(channels, WIDTHS[index], 3, padding=1), nn.BatchNorm2d(WIDTHS[index]), nn.ReLU()]
        channels = WIDTHS[index]
    # Pooling opens a stage instead of closing one, so that what is tapped is the activation before it.
    pool: dict[str, nn.Module] = {f'pool{index}': nn.MaxPool2d(2)} if index in (1, 2, 3) else {}
    return {**pool, f'block{index}': nn.Sequential(*layers)}
