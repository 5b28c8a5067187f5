"""What all backbones share: a stem, stages run one after the other, and what may be tapped or frozen."""
from collections.abc import Sequence

from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkd_atsc.errors.checks import check_flag, check_number

InitCfg = dict | list[dict] | None

# Normal with variance 2 / fan_out: what the literature's ResNets, wide ResNets, VGGs and MobileNetV2s start from.
KAIMING_INIT: list[dict] = [dict(type='Kaiming', layer=['Conv2d']),
                            dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm'])]


class StagedBackbone(BaseBackbone):
    """A backbone given by its modules, in the order in which they run.

    Args:
        stem: Name and module of what comes before the first stage; may be empty.
        stages: For each stage, name and module of its parts.
        out_indices: The stages whose outputs ``forward`` returns, in the order of the network; -1 is the last.
        frozen_stages: -1 freezes nothing, 0 the stem, k the stem and the first k stages: no gradients, and batch norm
            in eval mode.
        norm_eval: Keep all batch norm in eval mode in training.
        init_cfg: MMEngine's initialisation config.

    >>> import torch
    >>> net = StagedBackbone(dict(conv1=nn.Conv2d(3, 4, 1)), [dict(layer1=nn.ReLU()), dict(layer2=nn.AvgPool2d(2))],
    ...                      out_indices=(0, -1))
    >>> [tuple(feature.shape) for feature in net(torch.rand(1, 3, 8, 8))]
    [(1, 4, 8, 8), (1, 4, 4, 4)]
    """

    def __init__(self, stem: dict[str, nn.Module], stages: Sequence[dict[str, nn.Module]],
                 out_indices: Sequence[int] = (-1, ), frozen_stages: int = -1, norm_eval: bool = False,
                 init_cfg: InitCfg = None) -> None:
        super().__init__(init_cfg)
        self.out_indices = _check_out_indices(out_indices, len(stages))
        self.frozen_stages = check_number('frozen_stages', frozen_stages, low=-1, high=len(stages), integer=True)
        self.norm_eval = check_flag('norm_eval', norm_eval)
        self._stem = tuple(stem)
        self._stages = tuple(tuple(stage) for stage in stages)
        for part in (stem, *stages):
            for name, module in part.items():
                self.add_module(name, module)
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The outputs of the stages in ``out_indices``."""
        x = self._run(self._stem, x)
        features = []
        for index, stage in enumerate(self._stages):
            x = self._run(stage, x)
            if index in self.out_indices:
                features.append(x)
        return tuple(features)

    def _run(self, names: tuple[str, ...], x: Tensor) -> Tensor:
        for name in names:
            x = getattr(self, name)(x)
        return x

    def train(self, mode: bool = True) -> 'StagedBackbone':
        """As in any module, but what is frozen stays in eval mode."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        for names in (self._stem, *self._stages[:self.frozen_stages]):
            for name in names:
                getattr(self, name).eval().requires_grad_(False)


def _check_out_indices(out_indices: Sequence[int], num_stages: int) -> tuple[int, ...]:
    if not isinstance(out_indices, (tuple, list)) or not out_indices:
        raise TypeError(f'out_indices={out_indices!r} must be a tuple of stage indices, such as ({num_stages - 1},)')
    for index in out_indices:
        check_number('out_indices', index, low=-num_stages, high=num_stages - 1, integer=True)
    return tuple(sorted({index % num_stages for index in out_indices}))


def blocks_per_stage(depth: int, layers_per_step: int, extra_layers: int) -> int:
    """How many blocks a stage of a network of ``depth`` layers has.

    Args:
        depth: Layers in all.
        layers_per_step: Layers that one more block in every stage adds.
        extra_layers: Layers outside the blocks.

    >>> blocks_per_stage(32, layers_per_step=6, extra_layers=2)
    5
    >>> blocks_per_stage(33, layers_per_step=6, extra_layers=2)
    Traceback (most recent call last):
    ValueError: depth=33 must be 6n+2: the nearest are 32 and 38
    """
    check_number('depth', depth, low=layers_per_step + extra_layers, integer=True)
    blocks, rest = divmod(depth - extra_layers, layers_per_step)
    if rest:
        below = depth - rest
        raise ValueError(f'depth={depth} must be {layers_per_step}n+{extra_layers}: the nearest are {below} and '
                         f'{below + layers_per_step}')
    return blocks


def check_positive_integers(name: str, values: Sequence[int], length: int) -> tuple[int, ...]:
    """``values`` as a tuple if there are ``length`` of them, all positive integers."""
    if not isinstance(values, (tuple, list)) or len(values) != length:
        raise TypeError(f'{name}={values!r} must be {length} numbers')
    return tuple(check_number(name, value, low=1, integer=True) for value in values)
