"""The neck of an ATSC student: it projects the student's feature to a feature of each teacher's kind."""
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleDict
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_choice, check_flag, check_number
from mmkd_atsc.registry import MODELS

from ..classifier import Features, last_feature


# MultiFeatureProjector is its name in older configs and exported students of several teachers.
@MODELS.register_module(name=['FeatureProjector', 'MultiFeatureProjector'])
class FeatureProjector(BaseModule):
    r"""Projects a student's last feature to the teacher's number of channels.

    .. math::
        P(x) = \sigma(\mathrm{BN}(W_3\, \sigma(\mathrm{BN}(W_2\, \sigma(\mathrm{BN}(W_1\, x))))))

    with :math:`W_1` a 1x1 convolution to ``out_channels / factor`` channels, :math:`W_2` a 3x3 one, :math:`W_3` a 1x1
    one to ``out_channels`` (the bottleneck of `SimKD <https://arxiv.org/abs/2203.14001>`_) and :math:`\sigma` ReLU. For
    vectors all three are linear layers.

    As the neck of a student it needs no options: :meth:`bind` finds them when ``AdaptiveTeacherDistill`` is built, and
    makes a projector for each of several teachers. The exported student's config holds the options found. With
    ``in_channels`` and ``out_channels`` it is complete, for instance as a connector of a distiller.

    Args:
        in_channels: Channels of the student's feature.
        out_channels: Channels of the teacher's feature.
        factor: How much narrower the bottleneck is than the output: 2, 4 or 8.
        spatial: The teacher's feature is a map (N, C, H, W); False for vectors (N, C): class tokens, pooled features. A
            student's map is then averaged over its pixels first, and tokens (N, C, L), as MlpMixer gives, over L.
        final_relu: End with ReLU, right for a teacher whose features are never negative (ResNet, WRN, VGG). False
            for features that can be: those after a layer norm (ViT, Swin, ConvNeXt) or a linear bottleneck.
        pool: Factor by which the student's map is averaged down first.
        image_size: Side, or height and width, of the image by which the options are found. None: the ``img_size`` of
            a backbone that has one, else 64, or 224 for a network that cannot read so small an image.
        init_scale: The weight with which the last batch norm begins, as a classifier begins near 0: a projection of
            full size that still says nothing makes first steps so long that students do not recover. The papers: 1.
        projectors: The options of a projector for each of several teachers, by their names.

    Examples:
        >>> import torch
        >>> projector = FeatureProjector()
        >>> projector.bind(torch.zeros(1, 8, 4, 4), dict(teacher=torch.zeros(1, 16, 2, 2)))
        >>> projector.options()
        {'in_channels': 8, 'out_channels': 16, 'factor': 2, 'spatial': True, 'final_relu': True, 'pool': 2}
    """

    def __init__(self, in_channels: int | None = None, out_channels: int | None = None, factor: int = 2,
                 spatial: bool | None = None, final_relu: bool | None = None, pool: int | None = None,
                 image_size: int | tuple[int, int] | None = None, init_scale: float = 0.01,
                 projectors: dict[str, dict] | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        for name, value in dict(in_channels=in_channels, out_channels=out_channels, pool=pool).items():
            check_number(name, value, low=1, integer=True, optional=True)
        for name, flag in dict(spatial=spatial, final_relu=final_relu).items():
            check_flag(name, flag is None or flag)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.factor, self.pool = check_choice('factor', factor, (2, 4, 8)), pool
        self.spatial, self.final_relu = spatial, final_relu
        self.image_size = to_2tuple(image_size) if image_size else None
        self.init_scale = check_number('init_scale', init_scale, above=0)
        self.layers: nn.Sequential | None = None
        self.projectors: ModuleDict | None = None
        self.teacher_grad_scales: dict[str, float] = {}
        if projectors is not None:
            self.projectors = ModuleDict({  # MMEngine's: it calls init_weights of its modules
                name: MODELS.build({'type': 'mmkd_atsc.FeatureProjector', 'init_scale': init_scale, **options})
                for name, options in projectors.items()})
        elif in_channels and out_channels:
            self._build_layers(in_channels, out_channels)

    def _build_layers(self, in_channels: int, out_channels: int) -> None:
        self.spatial, self.final_relu = self.spatial is not False, self.final_relu is not False
        if out_channels % self.factor:
            raise ValueError(f'out_channels={out_channels} is not divisible by factor={self.factor}')
        width = out_channels // self.factor
        self.layers = nn.Sequential(
            *self._block(in_channels, width, 1), *self._block(width, width, 3), *self._block(width, out_channels, 1))
        nn.init.constant_(self.layers[-2].weight, self.init_scale)
        if not self.final_relu:
            del self.layers[-1]

    def _block(self, in_channels: int, out_channels: int, kernel_size: int) -> tuple[nn.Module, ...]:
        # No bias: the batch norm that follows would take it away.
        if self.spatial:
            layer = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
            return layer, nn.BatchNorm2d(out_channels), nn.ReLU()
        return nn.Linear(in_channels, out_channels, bias=False), nn.BatchNorm1d(out_channels), nn.ReLU()

    def options(self) -> dict[str, Any]:
        """The options of an equal projector that needs no teacher."""
        if self.projectors is not None:
            return dict(projectors={name: projector.options() for name, projector in self.projectors.items()})
        names = ('in_channels', 'out_channels', 'factor', 'spatial', 'final_relu', 'pool')
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def bind(self, feature: Tensor, targets: dict[str, Tensor],
             teacher_grad_scales: dict[str, float] | None = None) -> None:
        """Finds the options in the features of one image, and refuses given ones that do not fit.

        ``teacher_grad_scales`` are factors on the gradient that each of several projectors gives to the encoder.
        """
        if self.projectors is None and len(targets) > 1:
            self.layers, options = None, self.options()
            self.projectors = ModuleDict({name: FeatureProjector(**options, init_scale=self.init_scale)
                                          for name in targets})
        if self.projectors is not None:
            if list(self.projectors) != list(targets):
                raise ValueError(f'the projectors are for {", ".join(self.projectors)}; the teachers are '
                                 f'{", ".join(targets)}: names and order must agree')
            self.teacher_grad_scales = dict(teacher_grad_scales or {})
        for name, projector in (self.projectors or dict.fromkeys(targets, self)).items():
            projector._fit(feature, targets[name], name)

    def _fit(self, feature: Tensor, target: Tensor, name: str) -> None:
        found = dict(in_channels=feature.shape[1], out_channels=target.shape[1], spatial=target.dim() == 4)
        for option, value in found.items():
            if getattr(self, option) not in (None, value):
                raise ValueError(f'FeatureProjector has {option}={getattr(self, option)}, but the features are '
                                 f'{tuple(feature.shape)} of the student and {tuple(target.shape)} of the {name}: '
                                 f'{option}={value}, or leave it out')
            setattr(self, option, value)
        if self.layers is not None:
            return
        if self.final_relu is None:
            self.final_relu = bool((target >= 0).all())
        if self.pool is None and self.spatial:
            # Maps of other ratios are averaged to one size where they are compared, in the loss.
            ratio, *others = {have / want for have, want in zip(feature.shape[2:], target.shape[2:])}
            self.pool = int(ratio) if not others and ratio > 1 and ratio == int(ratio) else None
        self._build_layers(feature.shape[1], target.shape[1])
        self.to(feature)

    def forward(self, features: Features) -> Features:
        """The projection of the last feature: a tensor for a tensor, a tuple of one for a backbone's outputs.

        For several teachers it is a tuple with a projection for each.
        """
        feature = last_feature(features, type(self).__name__)
        if self.projectors is not None:
            return tuple(projector(scale_gradient(feature, self.teacher_grad_scales.get(name, 1.0)))
                         for name, projector in self.projectors.items())
        if self.layers is None:
            raise RuntimeError('FeatureProjector has no layers yet: AdaptiveTeacherDistill finds its options; '
                               'elsewhere give in_channels and out_channels')
        if not self.spatial and feature.dim() > 2:
            feature = feature.flatten(2).mean(2)
        elif self.spatial and self.pool:
            feature = F.avg_pool2d(feature, self.pool, ceil_mode=True)
        projected = self.layers(feature)
        return projected if isinstance(features, Tensor) else (projected, )


def scale_gradient(feature: Tensor, factor: float) -> Tensor:
    """The feature itself, whose gradient is multiplied by ``factor``."""
    if factor == 1 or not feature.requires_grad:
        return feature
    scaled = feature.view_as(feature)  # a tensor of its own: the hook must not hang on the one that others read
    scaled.register_hook(lambda gradient: gradient * factor)
    return scaled
