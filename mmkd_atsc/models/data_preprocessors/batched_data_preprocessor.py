"""From a batch of bytes to what a network takes, on its device."""
import functools
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample
from torch import Tensor

from mmkd_atsc.datasets.pad_crop_flip import to_device
from mmkd_atsc.registry import MODELS


class LabelledSamples(Sequence):
    """Data samples of ``labels`` (N,), made when one of them is read."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    @functools.cached_property
    def samples(self) -> list[DataSample]:
        # Views of one tensor: what MMPretrain's heads put together again was never copied one by one.
        return [DataSample().set_gt_label(label) for label in self.labels.split(1)]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Any:
        return self.samples[index]


@MODELS.register_module()
class BatchedDataPreprocessor(ClsDataPreprocessor):
    """MMPretrain's ``ClsDataPreprocessor`` for the batches of :class:`mmkd_atsc.BatchedCIFAR100`.

    In training the batch is augmented on the device as the data set's pipeline says, with random numbers from PyTorch's
    own generator. Options, colours, normalisation, mixup and CutMix, and batches of other data sets, are MMPretrain's.

    >>> import torch
    >>> batch = dict(inputs=torch.full((2, 3, 4, 4), 20, dtype=torch.uint8), labels=torch.tensor([3, 7]),
    ...              sample_idx=torch.tensor([0, 1]))
    >>> data = BatchedDataPreprocessor(mean=[10.] * 3, std=[5.] * 3)(batch)
    >>> data['inputs'].unique(), [sample.gt_label.item() for sample in data['data_samples']]
    (tensor([2.]), [3, 7])
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        if 'sample_idx' not in data:
            return super().forward(data, training)
        table = getattr(data, 'table', None)
        if table:
            inputs, labels = table.fetch(data['sample_idx'], self.device)
        else:
            inputs, labels = (to_device(data[key], self.device) for key in ('inputs', 'labels'))
        if training:
            inputs = data['augment'](inputs)
        inputs = super().forward(dict(inputs=inputs))['inputs']
        samples: Sequence = LabelledSamples(labels)
        if self.to_onehot:
            samples = list(samples)
            if self.num_classes is None:
                raise ValueError('data_preprocessor: to_onehot and batch_augments need num_classes')
            scores = F.one_hot(labels, self.num_classes)
            if training and self.batch_augments is not None:
                inputs, scores = self.batch_augments(inputs, scores)
            for sample, score in zip(samples, scores):
                sample.set_gt_score(score)
        if not training:  # for those who look up which images a network gets wrong
            for sample, index in zip(samples, data['sample_idx'].tolist()):
                sample.set_metainfo(dict(sample_idx=index))
        return dict(inputs=inputs, data_samples=samples)
