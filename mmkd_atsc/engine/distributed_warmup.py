"""A warm-up that a larger batch needs and the protocol's own does not."""
from typing import Any

from mmengine.optim import LinearLR, OptimWrapper

from mmkd_atsc.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class DistributedWarmupLR(LinearLR):
    """Starts from the config's learning rate and grows to the one that ``auto_scale_lr`` made of it.

    ``auto_scale_lr`` multiplies the rate by N for N times the batch; a network at its first weights does not bear that
    from the first step. Where the batch is the protocol's, on one process or divided among several, the factor is 1
    from the start and the schedule is the protocol's own.

    Args:
        optimizer: The wrapped optimizer.
        end: Epoch in which the full rate is reached.
        kwargs: As in MMEngine's ``LinearLR``.
    """

    def __init__(self, optimizer: Any, *args, end: int = 5, **kwargs) -> None:
        super().__init__(optimizer, *args, start_factor=1 / scale_of(optimizer), end=end, **kwargs)


def scale_of(optimizer: Any) -> float:
    """How many times the config's learning rate the optimizer has; at least 1.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    >>> optimizer.param_groups[0]['lr'] *= 8  # auto_scale_lr
    >>> scale_of(optimizer)
    8.0
    """
    optimizer = optimizer.optimizer if isinstance(optimizer, OptimWrapper) else optimizer
    if getattr(optimizer, 'configured_lr', 0):  # of the first group, by our constructor
        return max(1.0, optimizer.param_groups[0]['lr'] / optimizer.configured_lr)
    base = optimizer.defaults['lr']  # scaling changes the groups only
    # By another constructor. Some groups may have a multiple of their own (bias_lr_mult): that nearest to 1 has none.
    ratios = [group['lr'] / base for group in optimizer.param_groups] if base else []
    return min((ratio for ratio in ratios if ratio >= 1), default=1.0)
