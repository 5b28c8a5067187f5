"""Optimizer steps that do not happen where the loss is nan or inf."""
from typing import Callable, List, Optional

import torch
from mmengine.dist import all_reduce
from mmengine.optim import OptimWrapper
from torch import Tensor, nn


def skip_nonfinite_steps(optim_wrapper: OptimWrapper, on_skip: Callable[[], None]) -> None:
    """Makes ``optim_wrapper`` leave out the steps to which a loss that is nan or inf contributes.

    The parameters and the optimizer's state (momentum, counters) stay as they are. With gradient accumulation the
    whole accumulated step is left out. All processes skip together, whosever loss it was: their gradients would have
    met. Each backward waits for the GPU, and for the other processes.

    Args:
        optim_wrapper: Any of MMEngine's for one optimizer; its ``backward`` and ``step`` are replaced, and it gets an
            attribute ``spoiled``: whether the next step will be left out (checkpoints hold it, with the gradients).
        on_skip: Called for each such loss, in place of its backward.
    """
    backward, step = optim_wrapper.backward, optim_wrapper.step
    optim_wrapper.spoiled = False

    def guarded_backward(loss: Tensor, **kwargs) -> None:
        if finite_everywhere(loss):
            return backward(loss, **kwargs)
        optim_wrapper.spoiled = True
        optim_wrapper._inner_count += 1  # as any backward does, or the accumulation would fall out of step
        on_skip()

    def guarded_step(**kwargs) -> None:
        if not optim_wrapper.spoiled:
            step(**kwargs)
        optim_wrapper.spoiled = False

    optim_wrapper.backward, optim_wrapper.step = guarded_backward, guarded_step


def finite_everywhere(loss: Tensor) -> bool:
    """Whether the loss is finite in all processes."""
    finite = torch.isfinite(loss.detach()).all().float()
    all_reduce(finite, 'min')
    return bool(finite)


class BufferBackup:
    """A model's buffers as they were before a step: batch norm counts in its forward, before the loss is known.

    >>> norm = nn.BatchNorm1d(1)
    >>> backup = BufferBackup()
    >>> backup.take(norm)
    >>> _ = norm(torch.full((2, 1), float('nan')))
    >>> backup.restore(norm)
    >>> norm.running_mean, norm.num_batches_tracked
    (tensor([0.]), tensor(0))
    """

    def __init__(self) -> None:
        self._kept: Optional[List[Tensor]] = None

    @torch.no_grad()
    def take(self, model: nn.Module) -> None:
        buffers = list(model.buffers())
        if self._kept is None:
            self._kept = [buffer.clone() for buffer in buffers]
        elif buffers:
            torch._foreach_copy_(self._kept, buffers)

    @torch.no_grad()
    def restore(self, model: nn.Module) -> None:
        for buffer, kept in zip(model.buffers(), self._kept or ()):
            buffer.copy_(kept)
