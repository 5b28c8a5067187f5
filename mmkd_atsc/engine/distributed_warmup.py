"""A warm-up that several processes need and one does not."""
from typing import Any

from mmengine.dist import get_world_size
from mmengine.optim import LinearLR

from mmkd_atsc.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class DistributedWarmupLR(LinearLR):
    """Starts from one process's learning rate and grows to the scaled one of N processes.

    ``auto_scale_lr`` multiplies the rate by N; a network at its first weights does not bear that from the first step.
    With one process the factor is 1 from the start and the schedule is the protocol's own.

    Args:
        optimizer: The wrapped optimizer.
        end: Epoch in which the full rate is reached.
        kwargs: As in MMEngine's ``LinearLR``.
    """

    def __init__(self, optimizer: Any, *args, end: int = 5, **kwargs) -> None:
        super().__init__(optimizer, *args, start_factor=1 / get_world_size(), end=end, **kwargs)
