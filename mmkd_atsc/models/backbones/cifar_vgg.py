"""VGG for 32x32 images: vgg8, vgg11, vgg13, vgg16, vgg19, all with batch norm and a single linear classifier."""
from typing import Any

from torch import nn

from mmkd_atsc.errors.checks import check_choice
from mmkd_atsc.registry import MODELS

from .staged_backbone import StagedBackbone

WIDTHS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


@MODELS.register_module()
class CIFARVGG(StagedBackbone):
    """`VGG <https://arxiv.org/abs/1409.1556>`_ as the distillation literature trains it on CIFAR.

    Five stages of 3x3 convolutions with 2x2 max pooling before the second, third and fourth: 32, 16, 8, 4 and 4 pixels
    a side on 32x32 images, after the ReLU.

    Args:
        depth: 8, 11, 13, 16 or 19, counted with the three linear layers that the original had.
        kwargs: ``out_indices``, ``init_cfg`` of :class:`StagedBackbone`.
    """

    def __init__(self, depth: int = 16, **kwargs: Any) -> None:
        stages: list[dict[str, nn.Module]] = []
        channels = 3
        for index, convolutions in enumerate(CONVOLUTIONS[check_choice('depth', depth, CONVOLUTIONS)]):
            # Pooling opens a stage instead of closing one, so that a stage's output is an activation at full size.
            stage: dict[str, nn.Module] = {f'pool{index}': nn.MaxPool2d(2)} if index in (1, 2, 3) else {}
            layers: list[nn.Module] = []
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, WIDTHS[index], 3, padding=1), nn.BatchNorm2d(WIDTHS[index]), nn.ReLU()]
                channels = WIDTHS[index]
            stages.append({**stage, f'block{index}': nn.Sequential(*layers)})
        super().__init__({}, stages, **kwargs)
