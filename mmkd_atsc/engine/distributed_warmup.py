"""Warms the learning rate up where several processes make the batch larger."""
from typing import Any

from mmengine.optim import LinearLR, OptimWrapper

from mmkd_atsc.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class DistributedWarmupLR(LinearLR):
    """Starts from the config's learning rate and grows to the one that ``auto_scale_lr`` made of it.

    Where the whole batch is the protocol's, on one process or several, the schedule is the protocol's own.

    Args:
        end: Epoch in which the full rate is reached.
    """

    def __init__(self, optimizer: Any, *args, end: int = 5, **kwargs) -> None:
        inner = optimizer.optimizer if isinstance(optimizer, OptimWrapper) else optimizer
        # auto_scale_lr changes the groups only. Our constructor notes the first group's own rate, maybe a multiple.
        base, rate = getattr(inner, 'configured_lr', inner.defaults['lr']), inner.param_groups[0]['lr']
        super().__init__(optimizer, *args, start_factor=base / rate if rate > base else 1.0, end=end, **kwargs)
