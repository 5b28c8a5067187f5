"""CIFAR-10 and CIFAR-100 as one tensor each, from which a whole batch is fetched in one go."""
from typing import List, Sequence, Union

import numpy as np
import torch
from mmengine.dataset import default_collate, force_full_init
from mmpretrain.datasets import CIFAR10, CIFAR100
from mmpretrain.registry import TRANSFORMS
from torch import Tensor

from mmkd_atsc.registry import DATASETS, FUNCTIONS

from .pad_crop_flip import read_pipeline

SIDE = 32


class ImageTable(Sequence):
    """All images and labels, (N, C, H, W) bytes and (N, ), which reads like MMEngine's list of samples.

    >>> table = ImageTable(torch.arange(12, dtype=torch.uint8).view(3, 1, 2, 2), torch.tensor([5, 6, 7]))
    >>> table[1]['img'].shape, table[1]['gt_label'], len(table[1:]), table[[2, 0]].labels.tolist()
    ((2, 2, 1), 6, 2, [7, 5])
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Union[int, slice, List[int]]) -> Union[dict, 'ImageTable']:
        if isinstance(index, (slice, list)):
            rows = torch.arange(len(self))[index]
            return ImageTable(self.images[rows], self.labels[rows])
        return dict(img=self.images[index].permute(1, 2, 0).numpy(), gt_label=self.labels[index].item())


class Batch(dict):
    """A batch as a data set made it; tells those who look for something else in it what is needed to use it."""

    def __missing__(self, key):
        raise ValueError("a batched data set needs collate_fn=dict(type='mmkd_atsc.collate_batch') in its data loader "
                         "and data_preprocessor=dict(type='mmkd_atsc.BatchedDataPreprocessor')")

    def get(self, key, default=None):
        """As ``[key]``: MMPretrain's preprocessor asks for ``data_samples`` in this way, and would go on without."""
        return self[key]


@FUNCTIONS.register_module()
def collate_batch(batch: Union[Batch, list]) -> dict:
    """Leaves a batch that was fetched as one as it is; a list of samples goes through ``default_collate``.

    >>> collate_batch(Batch(inputs=1)), collate_batch([dict(inputs=1), dict(inputs=2)])
    ({'inputs': 1}, {'inputs': tensor([1, 2])})
    """
    return batch if isinstance(batch, Batch) else default_collate(batch)


class _Batched:
    """What turns one of MMPretrain's CIFAR data sets into one tensor; the files are read and checked as before."""

    classic: str

    def __init__(self, *args, pipeline: Sequence = (), **kwargs) -> None:
        transforms = [TRANSFORMS.build(step) if isinstance(step, dict) else step for step in pipeline]
        self.augment = read_pipeline(transforms, SIDE, type(self).__name__, self.classic)
        # Serialising is for workers that share a list of Python objects; here there is none.
        super().__init__(*args, pipeline=transforms, **dict(kwargs, serialize_data=False))

    def load_data_list(self) -> ImageTable:
        samples = super().load_data_list()
        images = torch.from_numpy(np.stack([sample['img'] for sample in samples]))
        return ImageTable(images.permute(0, 3, 1, 2).contiguous(), torch.tensor([s['gt_label'] for s in samples]))

    def _get_unserialized_subset(self, indices: Union[Sequence[int], int]) -> ImageTable:
        if isinstance(indices, Sequence):  # of which MMEngine would make a list of samples
            return self.data_list[list(indices)]
        return super()._get_unserialized_subset(indices)

    @force_full_init
    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The batch that PyTorch's data loader asks for. ``dataset[i]`` is one sample, by MMPretrain's pipeline."""
        rows = torch.tensor(indices)
        # index_select copies whole images; indexing does the same pixel by pixel, eight times slower.
        return Batch(inputs=self.data_list.images.index_select(0, rows), labels=self.data_list.labels[rows],
                     sample_idx=rows, augment=self.augment, samples=len(self))


@DATASETS.register_module()
class BatchedCIFAR10(_Batched, CIFAR10):
    """:class:`BatchedCIFAR100` for CIFAR-10."""

    classic = 'mmpretrain.CIFAR10'


@DATASETS.register_module()
class BatchedCIFAR100(_Batched, CIFAR100):
    """MMPretrain's ``CIFAR100``, fetched and augmented by the batch.

    It reads the same files, with the same checks, and takes the same arguments. The ``pipeline`` says what
    :class:`mmkd_atsc.BatchedDataPreprocessor` does to a whole batch, on the model's device: the protocol's
    ``RandomCrop`` and ``RandomFlip``, or a part of them; other transforms are refused. A data loader of it needs
    ``collate_fn=dict(type='mmkd_atsc.collate_batch')`` and no workers: a batch is one copy.

    Behind a wrapper that fetches sample by sample (``ConcatDataset``, ``RepeatDataset``) the same pipeline runs sample
    by sample, as MMPretrain runs it.

    >>> BatchedCIFAR100('data/cifar100', pipeline=[dict(type='RandomFlip', prob=0.5)], lazy_init=True).augment
    PadCropFlip(padding=0, flip_prob=0.5)
    """

    classic = 'mmpretrain.CIFAR100'
