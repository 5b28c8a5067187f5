"""A projector for each of several teachers."""
from typing import Dict, Optional, Tuple

from mmengine.model import BaseModule, ModuleDict
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.registry import MODELS

from ..classifier import Features, last_feature


@MODELS.register_module()
class MultiFeatureProjector(BaseModule):
    r"""The neck of a student with several teachers: one :class:`FeatureProjector` a teacher, all on one feature.

    The output is a tuple with a projected feature for each teacher, in their order; the head that reads it is a
    :class:`MultiClassifierHead`.

    In training the algorithm sets how hard each teacher pulls at what the projectors share, the student's encoder: the
    gradient that a projector hands back is multiplied by its teacher's weight. The projector itself learns in full, so
    a teacher's weight does not change how fast its own branch learns.

    Args:
        projectors: Options of each teacher's :class:`FeatureProjector`, by the teachers' names.
        init_cfg: As in every MMEngine module.

    >>> import torch
    >>> neck = MultiFeatureProjector(dict(wide=dict(in_channels=8, out_channels=32),
    ...                                   deep=dict(in_channels=8, out_channels=16, out_size=4)))
    >>> [tuple(feature.shape) for feature in neck((torch.zeros(2, 8, 8, 8), ))]
    [(2, 32, 8, 8), (2, 16, 4, 4)]
    """

    def __init__(self, projectors: Dict[str, dict], init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg=init_cfg)
        if not isinstance(projectors, dict) or not projectors:
            raise TypeError('projectors must be a dict with the options of a FeatureProjector for each teacher, '
                            f'not {projectors!r}')
        self.projectors = ModuleDict()  # MMEngine's: it hands on init_weights
        for name, options in projectors.items():
            self.projectors[name] = (options if isinstance(options, nn.Module)
                                     else MODELS.build({'type': 'mmkd_atsc.FeatureProjector', **options}))
        self.pulls = dict.fromkeys(self.projectors, 1.0)

    def set_pulls(self, pulls: Dict[str, float]) -> None:
        """How hard each teacher pulls at the student's encoder."""
        if list(pulls) != list(self.projectors):
            raise ValueError(f'the projectors are for {", ".join(self.projectors)}; the teachers are '
                             f'{", ".join(pulls)}: names and order must agree')
        self.pulls = {name: check_number('weight', pull, above=0) for name, pull in pulls.items()}

    def forward(self, features: Features) -> Tuple[Tensor, ...]:
        """The last feature, projected for each teacher."""
        feature = last_feature(features, 'MultiFeatureProjector')
        return tuple(projector(scale_gradient(feature, self.pulls[name]))
                     for name, projector in self.projectors.items())


def scale_gradient(feature: Tensor, factor: float) -> Tensor:
    """The feature itself, whose gradient is multiplied.

    >>> import torch
    >>> feature = torch.ones(3, requires_grad=True)
    >>> scale_gradient(feature, 0.5).sum().backward()
    >>> feature.grad
    tensor([0.5000, 0.5000, 0.5000])
    """
    if factor == 1 or not feature.requires_grad:
        return feature
    scaled = feature.view_as(feature)  # a tensor of its own: the hook must not hang on what the others read
    scaled.register_hook(lambda gradient: gradient * factor)
    return scaled
