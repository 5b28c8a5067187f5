"""Augmentation that can be repeated: what an image meets follows from a seed, the epoch and its place in the data."""
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from mmengine.dist import get_world_size
from mmengine.logging import MessageHub
from torch import Tensor

from mmkd_atsc.datasets.pad_crop_flip import PadCropFlip

MOST_SEED = 2**32 - 1  # what NumPy's generator takes


class RecordedBatch(NamedTuple):
    """What a batch is and how it was augmented, on the CPU; its first data sample carries it as ``recorded_batch``."""

    epoch: int
    sample_idx: Tensor
    checksums: Tensor
    samples: int
    augment: PadCropFlip


def draw_epoch(seed: int, epoch: int, samples: int) -> Tensor:
    """(3, samples) numbers in [0, 1): for row, column and flip of each image in an epoch.

    They depend on neither the order of the images nor the batches or processes that these come in, and those of an
    image not on how many there are. NumPy keeps this generator's numbers the same in all versions, PyTorch does not.

    >>> draw_epoch(seed=0, epoch=3, samples=5)[:, :2].equal(draw_epoch(seed=0, epoch=3, samples=2))
    True
    """
    return torch.from_numpy(np.random.RandomState([seed, epoch]).random_sample((samples, 3)).T)


def checksums(images: Tensor, labels: Tensor) -> Tensor:
    """(N, ) numbers of 64 bits, one for each image (N, C, H, W) of bytes with its label.

    They tell data apart, by mistake and not by malice.

    >>> images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    >>> len(checksums(images, torch.tensor([0, 1])).unique()), len(checksums(images, torch.tensor([1, 1])).unique())
    (2, 1)
    """
    words = images.flatten(1).contiguous().view(torch.int64)  # CIFAR's images are 384 of them
    factors = _factors(words.size(1) + 1)
    return (words * factors[1:]).sum(1) + labels * factors[0]


@cache
def _factors(count: int) -> Tensor:
    random = np.random.RandomState(0).randint(-2**63, 2**63 - 1, size=count, dtype=np.int64)
    return torch.from_numpy(random | 1)  # odd, so that no change of one word goes unseen


def current_epoch(batch_size: int, samples: int) -> int:
    """The epoch of the training that runs, from 0; 0 where none does. A training without epochs is refused."""
    hub = MessageHub.get_current_instance()
    one_epoch = -(-samples // (batch_size * get_world_size()))
    if hub.get_info('max_epochs') == 1 and (hub.get_info('max_iters') or 0) > one_epoch:
        raise ValueError('augment_seed counts epochs; with train_cfg=dict(by_epoch=False) there are none')
    return hub.get_info('epoch') or 0
