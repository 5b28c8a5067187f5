"""From a batch of bytes to what a network takes, on its device."""
import torch.nn.functional as F
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample
from torch import Tensor

from mmkd_atsc.registry import MODELS


@MODELS.register_module()
class BatchedDataPreprocessor(ClsDataPreprocessor):
    """MMPretrain's ``ClsDataPreprocessor`` for the batches of :class:`mmkd_atsc.BatchedCIFAR100`.

    Images and labels are moved to the device in one copy each. In training the batch is augmented there as the data
    set's pipeline says, with random numbers from PyTorch's own generator. Then colours, normalisation, mixup and CutMix
    are MMPretrain's. Batches of any other data set are MMPretrain's altogether.

    Args:
        mean, std, to_rgb, to_onehot, num_classes, batch_augments, pad_size_divisor, pad_value: As in
            ``ClsDataPreprocessor``.

    >>> import torch
    >>> batch = dict(inputs=torch.full((2, 3, 4, 4), 20, dtype=torch.uint8), labels=torch.tensor([3, 7]),
    ...              sample_idx=torch.tensor([0, 1]))
    >>> data = BatchedDataPreprocessor(mean=[10.] * 3, std=[5.] * 3)(batch)
    >>> data['inputs'].unique(), [sample.gt_label.item() for sample in data['data_samples']]
    (tensor([2.]), [3, 7])
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        if 'labels' not in data:
            return super().forward(data, training)
        inputs, labels = self._move(data['inputs']), self._move(data['labels'])
        if training:
            inputs = data['augment'](inputs)
        inputs = super().forward(dict(inputs=inputs))['inputs']
        # Views of one tensor: what MMPretrain's heads put together again was never copied one by one.
        samples = [DataSample().set_gt_label(label) for label in labels.split(1)]
        if self.to_onehot:
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
        return dict(inputs=inputs, data_samples=samples)

    def _move(self, tensor: Tensor) -> Tensor:
        if self.device.type == 'cuda':
            tensor = tensor.pin_memory()  # from other memory a copy waits for all that the GPU has still to do
        return tensor.to(self.device, non_blocking=True)
