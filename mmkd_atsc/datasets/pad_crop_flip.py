"""The augmentation of CIFAR's protocol for a whole batch of bytes: zero-pad, random crop, horizontal flip."""
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmcv.transforms import RandomFlip
from mmengine.dist import get_dist_info
from mmpretrain.datasets.transforms import PackInputs, RandomCrop
from torch import Tensor


def pad_crop_flip(images: Tensor, rows: Tensor, columns: Tensor, flips: Tensor, padding: int) -> Tensor:
    """Pads with zeros, cuts each image back to its size from its own row and column, and mirrors those of ``flips``."""
    height, width = images.shape[-2:]
    row = torch.arange(height, device=images.device)
    column = torch.arange(width, device=images.device)
    columns = columns[:, None] + torch.where(flips[:, None], width - 1 - column, column)
    rows = rows[:, None] + row
    # One gather moves each byte once; the flip costs nothing, it only numbers the columns backwards.
    pixels = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    padded = F.pad(images, (padding, ) * 4).flatten(2)
    return padded.gather(2, pixels.flatten(1)[:, None].expand(-1, images.size(1), -1)).view_as(images)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device, without waiting for it."""
    if device.type == 'cuda' and tensor.device.type == 'cpu':
        tensor = tensor.pin_memory()  # a copy from other memory waits until the GPU is idle
    return tensor.to(device, non_blocking=True)


class PadCropFlip(NamedTuple):
    """Random :func:`pad_crop_flip`: every offset equally likely, each image flipped with probability ``flip_prob``."""

    padding: int = 0
    flip_prob: float = 0.0

    def __call__(self, images: Tensor, draws: Tensor | None = None) -> Tensor:
        """Augments a batch; ``draws``, (3, N) numbers in [0, 1), decide on row, column and flip."""
        if not any(self):
            return images
        if draws is None:
            # On the CPU, so that runs with and without a GPU draw the same. Processes that were seeded alike draw for
            # all of them and take their own, so that no two augment alike.
            rank, world_size = get_dist_info()
            draws = torch.rand(world_size, 3, len(images))[rank]
        draws = to_device(draws, images.device)
        rows, columns = (draws[:2] * (2 * self.padding + 1)).long()
        return pad_crop_flip(images, rows, columns, draws[2] < self.flip_prob, self.padding)


def read_pipeline(transforms: Sequence[Any], size: int, dataset: str) -> PadCropFlip:
    """The batched augmentation that equals a pipeline of MMPretrain's transforms; other pipelines are refused."""
    padding = next((step.padding for step in transforms if type(step) is RandomCrop), None)
    prob = next((step.prob for step in transforms if type(step) is RandomFlip), 0.0)
    augment = PadCropFlip(padding if isinstance(padding, int) else 0, prob if isinstance(prob, float) else 0.0)
    allowed = [RandomCrop(size, padding=augment.padding or None), RandomFlip(augment.flip_prob), PackInputs()]
    for step in transforms:
        while allowed and type(allowed[0]) is not type(step):
            del allowed[0]
        if not allowed or vars(allowed.pop(0)) != vars(step):
            raise ValueError(
                f'pipeline: {dataset} takes RandomCrop(crop_size={size}, padding=N), RandomFlip(prob=P), PackInputs(), '
                f'in this order, not {" ".join(repr(step).split())}; {dataset.removeprefix("Batched")} takes any')
    return augment
