"""Synchronised batch norm on CPU processes, which PyTorch has for GPUs only."""
from typing import Any, Tuple

import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkd_atsc.registry import MODEL_WRAPPERS


class _SumOverProcesses(torch.autograd.Function):
    """Every process gets the sum, and in the backward pass the sum of what all processes made of it."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        value = value.contiguous().clone()
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return grad


def batch_statistics(images: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """Mean, biased variance and number of values of each channel, over the batches of all processes."""
    dims = [0, *range(2, images.dim())]
    count = images.new_tensor([images.numel() / images.shape[1]])
    count = _SumOverProcesses.apply(count)
    mean = _SumOverProcesses.apply(images.sum(dims)) / count
    shape = [1, -1] + [1] * (images.dim() - 2)
    variance = _SumOverProcesses.apply((images - mean.view(shape)).square().sum(dims)) / count
    return mean, variance, count


class CPUSyncBatchNorm(_BatchNorm):
    """``nn.SyncBatchNorm`` for CPU tensors, as ordinary autograd operations."""

    def _check_input_dim(self, images: Tensor) -> None:
        if images.dim() < 2:
            raise ValueError(f'batch norm needs two dimensions or more, not {images.dim()}')

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return super().forward(images)
        dtype = images.dtype
        images = images.to(torch.promote_types(dtype, torch.float32))  # sums in half precision would be too coarse
        mean, variance, count = batch_statistics(images)
        if count <= 1:
            raise ValueError(f'batch norm in training needs more than one value a channel, not {tuple(images.shape)}')
        if self.track_running_stats:
            with torch.no_grad():
                self.num_batches_tracked += 1
                factor = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.to(self.running_mean), factor)
                self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var), factor)
        shape = [1, -1] + [1] * (images.dim() - 2)
        normed = (images - mean.view(shape)) * (variance.view(shape) + self.eps).rsqrt()
        return (normed * self.weight.view(shape) + self.bias.view(shape) if self.affine else normed).to(dtype)


@MODEL_WRAPPERS.register_module()
class CPUSyncedDataParallel(MMDistributedDataParallel):
    """Distributed training on CPU processes with ``sync_bn='torch'``; PyTorch's own layer is refused there."""

    def __init__(self, module: nn.Module, *args: Any, **kwargs: Any) -> None:
        for layer in module.modules():
            if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
                layer.__class__ = CPUSyncBatchNorm  # the parameters stay the very ones that the optimizer has
        super().__init__(module, *args, **kwargs)
