"""Several processes with a batch each, whose gradients are averaged after the backward pass, in a few pieces."""
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmkd_atsc.registry import MODEL_WRAPPERS

from .fast_optim import FastOptimWrapper

MOST_NUMBERS = 32 * 1024 * 1024  # in a piece: 128 MiB of fp32


@MODEL_WRAPPERS.register_module()
class FlatDataParallel(nn.Module):
    r"""A model in several processes whose gradients are averaged between backward and the optimizer's step:

    .. math:: g \leftarrow \frac{1}{P} \sum_{p=1}^{P} g_p

    DistributedDataParallel does so by hooks on each parameter while backward runs, which no CUDA graph holds. Here all
    gradients travel as one flat tensor (a few for large networks). Which parameters have one may change between two
    steps, so a teacher may be frozen or let loose without a new wrapper, and ``find_unused_parameters`` has no meaning.
    It needs ``optim_wrapper=dict(type='mmkd_atsc.FastOptimWrapper')``. With gradient accumulation only the sum travels.

    Args:
        module: The model; the first process's parameters and buffers go to all.
    """

    def __init__(self, module: BaseModel) -> None:
        super().__init__()
        self.module = module
        self._sizes: list[int] | None = None
        for tensor in [*module.parameters(), *module.buffers()]:
            dist.broadcast(tensor.detach(), 0)

    def train_step(self, data: Any, optim_wrapper: FastOptimWrapper) -> dict[str, Tensor]:
        if not isinstance(optim_wrapper, FastOptimWrapper):
            raise TypeError("FlatDataParallel needs optim_wrapper=dict(type='mmkd_atsc.FastOptimWrapper'), which "
                            f'averages the gradients of the processes, not a {type(optim_wrapper).__name__}')
        optim_wrapper.average_gradients = self.average_gradients
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data: Any) -> Any:
        return self.module.val_step(data)

    def test_step(self, data: Any) -> Any:
        return self.module.test_step(data)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    @torch.no_grad()
    def average_gradients(self) -> None:
        """Replaces each gradient by its mean over the processes."""
        gradients = [parameter.grad for parameter in self.module.parameters() if parameter.grad is not None]
        sizes = [gradient.numel() for gradient in gradients]
        if sizes != self._sizes:  # else a process would wait for others that send something else
            self._check_same(sizes)
            self._sizes = sizes
        for piece in pieces(gradients):
            flat = torch.cat([gradient.reshape(-1) for gradient in piece])
            dist.all_reduce(flat)
            flat /= dist.get_world_size()
            parts = flat.split([gradient.numel() for gradient in piece])
            torch._foreach_copy_(piece, [part.view_as(gradient) for part, gradient in zip(parts, piece)])

    @staticmethod
    def _check_same(sizes: list[int]) -> None:
        everywhere: list = [None] * dist.get_world_size()
        dist.all_gather_object(everywhere, sizes)
        for rank, others in enumerate(everywhere):
            if others != sizes:
                raise RuntimeError(f'process {rank} has gradients for {len(others)} parameters, process '
                                   f'{dist.get_rank()} for {len(sizes)}: a loss of the model depends on the process')


def pieces(tensors: list[Tensor], most: int = MOST_NUMBERS) -> Iterator[list[Tensor]]:
    """Divides tensors, in their order, into lists of one dtype that hold at most so many numbers, or one tensor.

    >>> [len(piece) for piece in pieces([torch.zeros(3), torch.zeros(2), torch.zeros(4)], most=5)]
    [2, 1]
    """
    piece: list[Tensor] = []
    for tensor in tensors:
        if piece and (tensor.dtype != piece[0].dtype or sum(t.numel() for t in piece) + tensor.numel() > most):
            yield piece
            piece = []
        piece.append(tensor)
    if piece:
        yield piece
