"""Brings the logits of student and teacher to one scale."""
from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from torch import Tensor

from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.registry import MODELS


@MODELS.register_module()
class LogitStandardization(BaseConnector):
    r"""Gives each sample's logits mean 0 and the standard deviation :math:`1 / \tau`.

    .. math::
        z \mapsto \frac{z - \bar z}{\tau \sqrt{\sigma(z)^2 + \epsilon^2}}

    Before a loss on student and teacher, it gives each sample a temperature of its own, :math:`\tau\, \sigma(z)`: the
    student learns how the teacher ranks the classes, not how far apart its logits are. This is `Logit Standardization
    in Knowledge Distillation <https://arxiv.org/abs/2403.01427>`_ (Sun et al., CVPR 2024); :math:`\sigma` divides by
    C - 1, as in the authors' code. Give the loss behind it ``tau=1`` and a weight that holds the factor :math:`\tau^2`.

    The computation is in fp32 (fp64 for fp64 logits), under autocast too.

    Args:
        tau: Temperature.
        eps: A small deviation that makes zeros of equal logits.

    >>> import torch
    >>> standardize = LogitStandardization(tau=2.0)
    >>> standardize(torch.tensor([[1.0, 2.0, 3.0], [100.0, 300.0, 500.0], [7.0, 7.0, 7.0]]))
    tensor([[-0.5000,  0.0000,  0.5000],
            [-0.5000,  0.0000,  0.5000],
            [ 0.0000,  0.0000,  0.0000]])
    """

    method_note = 'standardized logits'  # stands behind the method's name in tables

    def __init__(self, tau: float = 2.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.tau = check_number('tau', tau, above=0)
        self.eps = check_number('eps', eps, above=0)

    def forward_train(self, feature: Tensor) -> Tensor:
        logits = feature if feature.dtype.itemsize > 4 else feature.float()
        centred = logits - logits.mean(1, keepdim=True)
        return centred / (self.tau * (centred.var(1, keepdim=True) + self.eps**2).sqrt())
