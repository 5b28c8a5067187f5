"""AEKT's task serialization: a linear layer after the student's logits, in training only."""
from collections.abc import Iterator

from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_choice, check_flag, check_number
from mmkd_atsc.registry import MODELS


@MODELS.register_module()
class SerializationFC(BaseConnector):
    r"""One linear layer after the student's logits, from class to class, that exists in training only.

    .. math::
        u = W z + b

    The cross-entropy teaches z, the distillation loss compares u with the teacher's logits. At inference z is the
    answer and this layer is gone. It must learn slowly, or it does the student's work:
    ``DistillOptimWrapperConstructor`` sees to it; our distillers refuse an optimizer without it at its first step.

    Args:
        num_classes: Number of classes. None: that of the networks' heads, by our distillers and :meth:`bind`.
        bias: Whether there is a b.
        init: ``'identity'`` begins with exactly u = z; ``'default'`` is torch's for linear layers.
        lr_mult: Its learning rate, as a multiple of the optimizer's; 0 freezes it.
        weight_decay: Its weight decay.
        init_cfg: MMEngine's initialization config, which overrides ``init``.

    >>> import torch
    >>> connector = SerializationFC(num_classes=10)
    >>> logits = torch.randn(4, 10)
    >>> torch.equal(connector(logits), logits)
    True
    """

    def __init__(self, num_classes: int | None = None, bias: bool = True, init: str = 'identity',
                 lr_mult: float = 0.01, weight_decay: float = 0.0, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.init = check_choice('init', init, ('identity', 'default'))
        self.bias = check_flag('bias', bias)
        self.lr_mult = check_number('lr_mult', lr_mult, 0)
        self.weight_decay = check_number('weight_decay', weight_decay, 0)
        self.num_classes: int | None = None
        self.fc: nn.Linear | None = None
        if num_classes is not None:
            self.bind(num_classes)

    def bind(self, num_classes: int) -> None:
        """Makes the layer for a number of classes; refuses another number later."""
        if self.num_classes not in (None, num_classes):
            raise ValueError(f'SerializationFC has num_classes={self.num_classes}, the heads have {num_classes}')
        if self.fc is None:
            self.num_classes = check_number('num_classes', num_classes, low=2, integer=True)
            self.fc = nn.Linear(num_classes, num_classes, bias=self.bias)
            self.reset_parameters()
        self.fc.requires_grad_(self.lr_mult > 0)

    def param_group_options(self) -> Iterator[tuple[nn.Parameter, dict]]:
        """Requests a slow group without weight decay."""
        for parameter in self.parameters():
            yield parameter, dict(lr_mult=self.lr_mult, weight_decay=self.weight_decay)

    def reset_parameters(self) -> None:
        if self.fc is None:
            return
        self.fc.reset_parameters()
        if self.init == 'identity':
            nn.init.eye_(self.fc.weight)
            if self.bias:
                nn.init.zeros_(self.fc.bias)

    def init_weights(self) -> None:
        # The init_cfg of a model around this one has initialized every linear layer in it, this one too.
        if not self.is_init:
            self.reset_parameters()
        super().init_weights()

    def forward_train(self, feature: Tensor) -> Tensor:
        if self.fc is None:
            raise RuntimeError('SerializationFC has no layer yet: our distillers find num_classes; elsewhere give it')
        return self.fc(feature)
