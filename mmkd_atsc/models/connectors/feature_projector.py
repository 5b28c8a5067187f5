"""The bottleneck that turns a student's features into features of the teacher's kind (SimKD's projector)."""
from typing import Optional, Tuple, Union

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_choice, check_flag, check_number
from mmkd_atsc.registry import MODELS

from ..classifier import Features, last_feature


@MODELS.register_module()
class FeatureProjector(BaseModule):
    r"""Projects a student's last feature to the teacher's number of channels.

    .. math::
        P(x) = \sigma(\mathrm{BN}(W_3\, \sigma(\mathrm{BN}(W_2\, \sigma(\mathrm{BN}(W_1\, x))))))

    with :math:`W_1` a 1x1 convolution to ``out_channels / factor`` channels, :math:`W_2` a 3x3 one among them, and
    :math:`W_3` a 1x1 one to ``out_channels``; :math:`\sigma` is ReLU. For vectors all three are linear layers. It is
    the neck of the student, and deployed with it; in a distiller it serves as a connector. The bottleneck is that of
    `SimKD <https://arxiv.org/abs/2203.14001>`_.

    Args:
        in_channels: Channels of the student's feature.
        out_channels: Channels of the teacher's feature.
        factor: How much narrower the bottleneck is than the output: 2, 4 or 8.
        spatial: The teacher's feature is a map (N, C, H, W); False for vectors (N, C): class tokens, pooled features. A
            student's map is then averaged over its pixels first, and tokens (N, C, L), as MlpMixer gives, over L.
        out_size: Height and width of the teacher's map. A larger map of the student is pooled down to it first.
        final_relu: End with ReLU, right for a teacher whose features are never negative (ResNet, WRN, VGG). Set False
            for features that can be: those after a layer norm (ViT, Swin, ConvNeXt) or a linear bottleneck.
        init_cfg: As in every MMEngine module.

    Examples:
        >>> import torch
        >>> projector = FeatureProjector(in_channels=8, out_channels=16, out_size=4)
        >>> feature, = projector((torch.zeros(2, 4, 16, 16), torch.zeros(2, 8, 8, 8)))
        >>> feature.shape
        torch.Size([2, 16, 4, 4])
        >>> FeatureProjector(8, 16, spatial=False)(torch.zeros(2, 8)).shape
        torch.Size([2, 16])
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int = 2, spatial: bool = True,
                 out_size: Union[None, int, Tuple[int, int]] = None, final_relu: bool = True,
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.in_channels = check_number('in_channels', in_channels, low=1, integer=True)
        self.out_channels = check_number('out_channels', out_channels, low=1, integer=True)
        check_choice('factor', factor, (2, 4, 8))
        self.spatial = check_flag('spatial', spatial)
        self.out_size = _height_and_width(out_size)
        check_flag('final_relu', final_relu)
        if out_channels % factor:
            raise ValueError(f'out_channels={out_channels} is not divisible by factor={factor}')
        if self.out_size and not spatial:
            raise ValueError(f'out_size={out_size!r} needs spatial=True: vectors have no height and width')
        width = out_channels // factor
        self.layers = nn.Sequential(
            *self._block(in_channels, width, kernel_size=1), *self._block(width, width, kernel_size=3),
            *self._block(width, out_channels, kernel_size=1))
        if not final_relu:
            del self.layers[-1]

    def _block(self, in_channels: int, out_channels: int, kernel_size: int) -> Tuple[nn.Module, ...]:
        # No bias: the batch norm that follows would take it away.
        if self.spatial:
            layer = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
            return layer, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
        return nn.Linear(in_channels, out_channels, bias=False), nn.BatchNorm1d(out_channels), nn.ReLU(inplace=True)

    def forward(self, features: Features) -> Features:
        """The projection of the last feature: a tensor for a tensor, a tuple of one for a backbone's outputs."""
        feature = last_feature(features, 'FeatureProjector')
        if not self.spatial and feature.dim() in (3, 4):
            feature = feature.flatten(2).mean(2)
        self._check(feature)
        if self.out_size:
            size = tuple(min(have, want) for have, want in zip(feature.shape[2:], self.out_size))
            if size != tuple(feature.shape[2:]):
                feature = _pooled(feature, size)
        projected = self.layers(feature)
        return projected if isinstance(features, Tensor) else (projected, )

    def _check(self, feature: Tensor) -> None:
        kind, dims = ('map', 4) if self.spatial else ('vector', 2)
        if feature.dim() != dims:
            hint = ' (set spatial=False)' if feature.dim() == 2 else ''
            raise ValueError(f'FeatureProjector got a feature of shape {tuple(feature.shape)}, with '
                             f'spatial={self.spatial} it takes a {kind} of {dims} dimensions{hint}')
        if feature.shape[1] != self.in_channels:
            raise ValueError(f'FeatureProjector got a feature of shape {tuple(feature.shape)}, its channels are '
                             f'{feature.shape[1]} and not in_channels={self.in_channels}')


def _pooled(feature: Tensor, size: Tuple[int, int]) -> Tensor:
    """``adaptive_avg_pool2d``; as two matrix products for ONNX, which has it only for sizes that divide the map's."""
    if not torch.onnx.is_in_onnx_export():
        return F.adaptive_avg_pool2d(feature, size)
    rows, columns = (_averages(int(have), int(want)).to(feature) for have, want in zip(feature.shape[2:], size))
    return rows @ feature @ columns.T


def _averages(have: int, want: int) -> Tensor:
    """The matrix (want, have) by which adaptive pooling averages a side.

    >>> _averages(3, 2)
    tensor([[0.5000, 0.5000, 0.0000],
            [0.0000, 0.5000, 0.5000]])
    """
    start = torch.arange(want)[:, None] * have
    pixel = torch.arange(have) * want
    inside = ((pixel > start - want) & (pixel < start + have)).float()
    return inside / inside.sum(1, keepdim=True)


def _height_and_width(size: Union[None, int, Tuple[int, int]]) -> Optional[Tuple[int, int]]:
    if size is None:
        return None
    sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(sides) != 2:
        raise ValueError(f'out_size={size!r} must be a number or a pair of height and width')
    return tuple(check_number('out_size', side, low=1, integer=True) for side in sides)
