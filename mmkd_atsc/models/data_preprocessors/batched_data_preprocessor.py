"""From a batch of bytes to what a network takes, on its device."""
from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample
from torch import Tensor

from mmkd_atsc.datasets.batched_cifar import Batch
from mmkd_atsc.datasets.pad_crop_flip import to_device
from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.registry import MODELS

from .recorded_batch import MOST_SEED, RecordedBatch, checksums, current_epoch, draw_epoch


class LabelledSamples(list):
    """Data samples of labels (N,), made when somebody reads one; who reads ``labels`` needs none.

    >>> import torch
    >>> samples = LabelledSamples(torch.tensor([3, 7]))
    >>> len(samples), samples.labels, samples[1].gt_label
    (2, tensor([3, 7]), tensor([7]))
    """

    def __init__(self, labels: Tensor) -> None:
        super().__init__()
        self.labels = labels

    def _made(self) -> 'LabelledSamples':
        if not super().__len__():
            # Views of one tensor: what MMPretrain's heads put together again was never copied one by one.
            self.extend(DataSample().set_gt_label(label) for label in self.labels.split(1))
        return self

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[DataSample]:
        return super(LabelledSamples, self._made()).__iter__()

    def __getitem__(self, index: Any) -> Any:
        return super(LabelledSamples, self._made()).__getitem__(index)


@MODELS.register_module()
class BatchedDataPreprocessor(ClsDataPreprocessor):
    """MMPretrain's ``ClsDataPreprocessor`` for the batches of :class:`mmkd_atsc.BatchedCIFAR100`.

    Images and labels are fetched on the device if the data set's table lies there, else moved there in one copy each.
    Data samples are made when a head asks for them. In training the batch is augmented on the device as the data set's
    pipeline says, with random numbers from PyTorch's own generator. Then colours, normalisation, mixup and CutMix are
    MMPretrain's. Batches of any other data set are MMPretrain's altogether.

    With an ``augment_seed`` the random numbers follow from it, the epoch and the image's place in the data set instead,
    whatever the order, the batches and the processes: a second training sees the same images in the same epochs.

    Args:
        augment_seed: See above. None: PyTorch's generator.
        augment_epochs: After so many epochs the augmentation begins anew. None: it never repeats.
        mean, std, to_rgb, to_onehot, num_classes, batch_augments, pad_size_divisor, pad_value: As in
            ``ClsDataPreprocessor``.

    >>> import torch
    >>> batch = dict(inputs=torch.full((2, 3, 4, 4), 20, dtype=torch.uint8), labels=torch.tensor([3, 7]),
    ...              sample_idx=torch.tensor([0, 1]))
    >>> data = BatchedDataPreprocessor(mean=[10.] * 3, std=[5.] * 3)(batch)
    >>> data['inputs'].unique(), [sample.gt_label.item() for sample in data['data_samples']]
    (tensor([2.]), [3, 7])
    """

    def __init__(self, *args: Any, augment_seed: int | None = None, augment_epochs: int | None = None,
                 **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if augment_seed is None and augment_epochs is not None:
            raise ValueError(f'augment_epochs={augment_epochs!r} needs an augment_seed')
        self.augment_seed: int | None = None
        self.augment_epochs: int | None = None
        if augment_seed is not None:
            self.set_augmentation(augment_seed, augment_epochs)

    def set_augmentation(self, seed: int, epochs: int | None) -> None:
        """Sets ``augment_seed`` and ``augment_epochs``; a seed that the config has given must be the same."""
        check_number('augment_seed', seed, 0, MOST_SEED, integer=True)
        if epochs is not None:
            check_number('augment_epochs', epochs, 1, integer=True)
        own = self.augment_seed, self.augment_epochs
        if own[0] is not None and (own[0] != seed or own[1] not in (None, epochs)):
            raise ValueError(f'data_preprocessor has augment_seed={own[0]}, augment_epochs={own[1]}; the teachers were '
                             f'recorded with augment_seed={seed}, augment_epochs={epochs}')
        self.augment_seed, self.augment_epochs = seed, epochs
        self._draws: tuple[Any, Any] = None, None  # those of one epoch, and what they were made of

    def forward(self, data: dict, training: bool = False, epoch: int | None = None) -> dict:
        """As in ``ClsDataPreprocessor``; with an ``augment_seed``, ``epoch`` may name another epoch than this one."""
        seeded = training and self.augment_seed is not None
        if not isinstance(data, Batch) and 'labels' not in data:
            if seeded:
                raise ValueError("augment_seed and teacher_cache need images that are augmented in batches: a data set "
                                 "such as type='mmkd_atsc.BatchedCIFAR100', not wrapped in another")
            return super().forward(data, training)
        if isinstance(data, Batch):
            inputs, labels = data.fetch(self.device)
        else:
            inputs, labels = self.to_device(data['inputs']), self.to_device(data['labels'])
        recorded = self.record(data, epoch) if seeded else None
        if training:
            inputs = data['augment'](inputs, None if recorded is None else self.draws_of(recorded))
        inputs = super().forward(dict(inputs=inputs))['inputs']
        samples: list = LabelledSamples(labels)
        if self.to_onehot:
            samples = list(samples)
            if self.num_classes is None:
                raise ValueError('num_classes=None: to_onehot and batch_augments need it in data_preprocessor')
            scores = F.one_hot(labels, self.num_classes)
            if training and self.batch_augments is not None:
                inputs, scores = self.batch_augments(inputs, scores)
            for sample, score in zip(samples, scores):
                sample.set_gt_score(score)
        if not training:  # for those who look up which images a network gets wrong
            for sample, index in zip(samples, data['sample_idx'].tolist()):
                sample.set_metainfo(dict(sample_idx=index))
        if recorded is not None:  # one for all: a step has no time to tell each
            samples[0].set_field(recorded, 'recorded_batch', field_type='metainfo')
        return dict(inputs=inputs, data_samples=samples)

    def record(self, data: dict, epoch: int | None = None) -> RecordedBatch:
        """What a batch is, and which epoch's augmentation it gets."""
        if epoch is None:
            epoch = current_epoch(len(data['labels']), data['samples'])
        if self.augment_epochs is not None:
            epoch %= self.augment_epochs
        return RecordedBatch(epoch, data['sample_idx'], checksums(data['inputs'], data['labels']), data['samples'],
                             data['augment'])

    def draws_of(self, batch: RecordedBatch) -> Tensor:
        """(3, N) numbers for a batch."""
        key: tuple[Any, int, int] = self.augment_seed, batch.epoch, batch.samples
        if self._draws[0] != key:
            self._draws = key, draw_epoch(*key)
        return self._draws[1][:, batch.sample_idx]

    def to_device(self, tensor: Tensor) -> Tensor:
        """A tensor on the model's device, without waiting for it."""
        return to_device(tensor, self.device)
