"""The base class of the package's backbones, and the layers that they have in common."""
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_number

# Normal with variance 2 / fan_out: the initialisation of the literature's ResNets, wide ResNets, VGGs and MobileNetV2s.
KAIMING_INIT: list[dict] = [dict(type='Kaiming', layer=['Conv2d']),
                            dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm'])]


class StagedBackbone(BaseModule):
    """A backbone given by its modules, in the order in which they run.

    Args:
        stem: Names and modules of the layers before the first stage; may be empty.
        stages: For each stage, names and modules of its layers.
        out_indices: The stages whose outputs ``forward`` returns, in the order of the network; -1 is the last.
        init_cfg: MMEngine's initialisation config. None: PyTorch's own initialisation.
    """

    def __init__(self, stem: dict[str, nn.Module], stages: Sequence[dict[str, nn.Module]],
                 out_indices: Sequence[int] = (-1, ), init_cfg: Any = KAIMING_INIT) -> None:
        super().__init__(init_cfg)
        count = len(stages)
        if not isinstance(out_indices, (tuple, list)) or not out_indices:
            raise TypeError(f'out_indices={out_indices!r} must be a tuple of stage indices, such as ({count - 1},)')
        indices = [check_number('out_indices', i, low=-count, high=count - 1, integer=True) for i in out_indices]
        self.out_indices = tuple(sorted({index % count for index in indices}))
        self._parts = [tuple(part) for part in (stem, *stages)]
        for part in (stem, *stages):
            for name, module in part.items():
                self.add_module(name, module)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The outputs of the stages in ``out_indices``."""
        features = []
        for index, names in enumerate(self._parts, start=-1):
            for name in names:
                x = getattr(self, name)(x)
            if index in self.out_indices:
                features.append(x)
        return tuple(features)


def conv_bn(in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1,
            groups: int = 1) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A convolution without bias that keeps the size at stride 1, and its batch norm."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(out_channels)


def stem(width: int, kernel: int) -> dict[str, nn.Module]:
    """The first convolution with its batch norm and ReLU."""
    conv, bn = conv_bn(3, width, kernel)
    return dict(conv1=conv, bn1=bn, relu=nn.ReLU())


def stack(block: Callable[..., nn.Module], blocks: int, in_channels: int, out_channels: int,
          stride: int) -> nn.Sequential:
    """So many blocks; the first changes channels and size, the others keep them."""
    first = block(in_channels, out_channels, stride)
    return nn.Sequential(first, *(block(out_channels, out_channels, 1) for _ in range(blocks - 1)))


def layers(block: Callable[..., nn.Module], blocks: Sequence[int], widths: Sequence[int],
           first_stride: int = 1) -> list[dict[str, nn.Module]]:
    """The stages ``layer1``, ``layer2``, ... between ``widths``; all but the first halve the image."""
    return [{f'layer{i + 1}': stack(block, count, widths[i], widths[i + 1], stride=2 if i else first_stride)}
            for i, count in enumerate(blocks)]


def blocks_per_stage(depth: int, extra_layers: int) -> int:
    """The number n of blocks in each stage of a network of ``6n + extra_layers`` layers."""
    check_number('depth', depth, low=6 + extra_layers, integer=True)
    blocks, rest = divmod(depth - extra_layers, 6)
    if rest:
        nearest = f'{depth - rest} and {depth - rest + 6}'
        raise ValueError(f'depth={depth} must be 6n+{extra_layers}: the nearest are {nearest}')
    return blocks
