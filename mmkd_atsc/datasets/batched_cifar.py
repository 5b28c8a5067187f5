"""CIFAR-10 and CIFAR-100 as one tensor each, which gives a whole batch in one copy."""
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import default_collate, force_full_init
from mmpretrain.datasets import CIFAR10, CIFAR100
from mmpretrain.registry import TRANSFORMS
from torch import Tensor
from torch.utils.data import get_worker_info

from mmkd_atsc.registry import DATASETS, FUNCTIONS

from .pad_crop_flip import PadCropFlip, read_pipeline, to_device

SIDE = 32
CPU = torch.device('cpu')


class ImageTable(Sequence):
    """All images and labels, (N, C, H, W) bytes and (N, ), which reads like MMEngine's list of samples."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels
        self._copies: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __getstate__(self) -> dict:  # another process makes its own
        return dict(vars(self), _copies={})

    def fetch(self, rows: Tensor, device: torch.device = CPU) -> tuple[Tensor, Tensor]:
        """The images and labels of some rows. A GPU gets all images once, if they fit into an eighth of its memory."""
        if device.type != 'cuda' or self.images.nbytes > torch.cuda.get_device_properties(device).total_memory / 8:
            # index_select copies whole images; indexing does the same pixel by pixel, eight times slower.
            images, labels = self.images.index_select(0, rows), self.labels[rows]
            return to_device(images, device), to_device(labels, device)
        if device not in self._copies:
            self._copies[device] = self.images.to(device), self.labels.to(device)
        rows = to_device(rows, device)
        return self._copies[device][0].index_select(0, rows), self._copies[device][1].index_select(0, rows)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | slice | list[int]) -> Any:
        if isinstance(index, (slice, list)):
            rows = torch.arange(len(self))[index]
            return ImageTable(self.images[rows], self.labels[rows])
        return dict(img=self.images[index].permute(1, 2, 0).numpy(), gt_label=self.labels[index].item())


class Batch(dict):
    """Rows of a table, whose images and labels are fetched when they are needed.

    Any other key is refused with the settings that a batched data set needs.
    """

    def __init__(self, table: ImageTable, rows: Tensor, augment: PadCropFlip) -> None:
        super().__init__(sample_idx=rows, augment=augment)
        self.table: ImageTable | None = table
        if get_worker_info() is not None:  # the rows travel to another process, the table must not
            self['inputs'], self['labels'] = table.fetch(rows)
            self.table = None

    def __missing__(self, key):
        if key in ('inputs', 'labels') and self.table is not None:
            self['inputs'], self['labels'] = self.table.fetch(self['sample_idx'])
            return self[key]
        raise ValueError("a batched data set needs collate_fn=dict(type='mmkd_atsc.collate_batch') in its data loader "
                         "and data_preprocessor=dict(type='mmkd_atsc.BatchedDataPreprocessor')")

    def get(self, key, default=None):
        """As ``[key]``, since MMPretrain's preprocessor gets ``data_samples`` so and would go on without labels."""
        return self[key]


@FUNCTIONS.register_module()
def collate_batch(batch: Batch | list) -> dict:
    """Returns a :class:`Batch` as it is; a list of samples goes through ``default_collate``."""
    return batch if isinstance(batch, Batch) else default_collate(batch)


@DATASETS.register_module()
class BatchedCIFAR10(CIFAR10):
    """MMPretrain's ``CIFAR10``, fetched and augmented by the batch.

    It takes the same arguments. The ``pipeline`` names the augmentation that
    :class:`mmkd_atsc.BatchedDataPreprocessor` applies to a whole batch, on the model's device: the protocol's
    ``RandomCrop`` and ``RandomFlip``, or a part of them. Its data loader needs
    ``collate_fn=dict(type='mmkd_atsc.collate_batch')`` and no workers: a batch is one copy.

    >>> BatchedCIFAR10('data/cifar10', pipeline=[dict(type='RandomFlip', prob=0.5)], lazy_init=True).augment
    PadCropFlip(padding=0, flip_prob=0.5)
    """

    def __init__(self, *args, pipeline: Sequence = (), **kwargs) -> None:
        transforms = [TRANSFORMS.build(step) if isinstance(step, dict) else step for step in pipeline]
        self.augment = read_pipeline(transforms, SIDE, type(self).__name__)
        # Serialising serves workers that share a list of Python objects; here there is a tensor.
        super().__init__(*args, pipeline=transforms, **dict(kwargs, serialize_data=False))

    def load_data_list(self) -> ImageTable:
        samples = super().load_data_list()
        images = torch.from_numpy(np.stack([sample['img'] for sample in samples]))
        return ImageTable(images.permute(0, 3, 1, 2).contiguous(), torch.tensor([s['gt_label'] for s in samples]))

    def _get_unserialized_subset(self, indices: Sequence[int] | int) -> ImageTable:
        if isinstance(indices, Sequence):  # MMEngine would make a list of samples
            return self.data_list[list(indices)]
        return super()._get_unserialized_subset(indices)

    @force_full_init
    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The batch that PyTorch's data loader asks for. ``dataset[i]`` is one sample, by MMPretrain's pipeline."""
        return Batch(self.data_list, torch.tensor(indices), self.augment)


@DATASETS.register_module()
class BatchedCIFAR100(BatchedCIFAR10, CIFAR100):
    """:class:`BatchedCIFAR10` for CIFAR-100."""
