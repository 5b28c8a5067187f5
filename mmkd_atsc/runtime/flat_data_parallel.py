"""Distributed training whose gradients are averaged after the backward pass, in a few pieces."""
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmkd_atsc.registry import MODEL_WRAPPERS

from .fast_optim import FastOptimWrapper

MOST_NUMBERS = 32 * 1024 * 1024  # in a piece: 128 MiB of fp32
CHECK_INTERVAL = 100  # steps


@MODEL_WRAPPERS.register_module()
class FlatDataParallel(nn.Module):
    r"""A model in several processes whose gradients are averaged between backward and the optimizer's step:

    .. math:: g \leftarrow \frac{1}{P} \sum_{p=1}^{P} g_p

    DistributedDataParallel averages by hooks while backward runs, which no CUDA graph can hold. Here all gradients
    travel as one flat tensor (several for large networks), of accumulated steps only the sum. It needs
    ``optim_wrapper=dict(type='mmkd_atsc.FastOptimWrapper')``.

    Parameters may be frozen or learn again between two steps. ``find_unused_parameters`` has no meaning: a parameter
    without a gradient keeps none. All processes must have gradients for the same parameters; a run where they differ
    stops after at most 100 steps. All begin with the first one's parameters and buffers.
    """

    def __init__(self, module: BaseModel) -> None:
        super().__init__()
        self.module = module
        self._steps = 0
        for tensor in [*module.parameters(), *module.buffers()]:
            dense = tensor.detach().contiguous()  # NCCL sends no other
            dist.broadcast(dense, 0)
            tensor.detach().copy_(dense)

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

    def forward(self, *args: Any, mode: str = 'tensor', **kwargs: Any) -> Any:
        if mode == 'loss':
            raise RuntimeError('FlatDataParallel averages gradients in train_step; a loop of your own that calls the '
                               'model for its losses needs MMDistributedDataParallel')
        return self.module(*args, mode=mode, **kwargs)

    @torch.no_grad()
    def average_gradients(self) -> None:
        """Replaces each gradient by its mean over the processes; zeros are sent where there is none."""
        parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        for piece in pieces(parameters):
            flat = torch.cat([(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).reshape(-1)
                              for parameter in piece])
            dist.all_reduce(flat)
            flat /= dist.get_world_size()
            parts = zip(piece, flat.split([parameter.numel() for parameter in piece]))
            own = [(parameter.grad, part.view_as(parameter)) for parameter, part in parts if parameter.grad is not None]
            if own:
                torch._foreach_copy_([gradient for gradient, _ in own], [mean for _, mean in own])
        if self._steps < 2 or self._steps % CHECK_INTERVAL == 0:  # it waits for the GPU
            self._check_same([parameter.grad is not None for parameter in parameters], parameters[0].device)
        self._steps += 1

    def _check_same(self, present: list[bool], device: torch.device) -> None:
        """Refuses a parameter that has a gradient in some processes and none in others."""
        count = torch.tensor(present, dtype=torch.float32, device=device)
        dist.all_reduce(count)
        names = [name for name, parameter in self.module.named_parameters() if parameter.requires_grad]
        for name, processes in zip(names, count.tolist()):
            if 0 < processes < dist.get_world_size():
                raise RuntimeError(f'{name} has a gradient in {processes:.0f} of {dist.get_world_size()} processes: a '
                                   'loss of the model depends on the process; FlatDataParallel needs them alike')


def pieces(tensors: list[nn.Parameter], most: int = MOST_NUMBERS) -> Iterator[list[nn.Parameter]]:
    """Divides tensors, in their order, into lists of one dtype that hold at most so many numbers, or one tensor."""
    piece: list[nn.Parameter] = []
    for tensor in tensors:
        if piece and (tensor.dtype != piece[0].dtype or sum(t.numel() for t in piece) + tensor.numel() > most):
            yield piece
            piece = []
        piece.append(tensor)
    if piece:
        yield piece
