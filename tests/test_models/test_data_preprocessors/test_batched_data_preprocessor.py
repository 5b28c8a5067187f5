"""A batch is preprocessed to what MMPretrain makes of its samples, in three copies."""
import copy

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample
from torch.utils._python_dispatch import TorchDispatchMode

from mmkd_atsc.datasets.pad_crop_flip import PadCropFlip
from mmkd_atsc.models.data_preprocessors import BatchedDataPreprocessor

NORMALISED = dict(mean=[129.3105, 124.1085, 112.4040], std=[68.2125, 65.4075, 70.4055], num_classes=10)
MIXED = dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)], probs=[0.4, 0.4])


def make_batch(count=12, augment=PadCropFlip()):
    generator = torch.Generator().manual_seed(0)
    return dict(inputs=torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator),
                 labels=torch.randint(10, (count, ), generator=generator), sample_idx=torch.arange(count) + 100,
                 augment=augment)


def as_samples(batch):
    """The same batch as MMPretrain's pipeline and collate function make it."""
    return default_collate([dict(inputs=image, data_samples=DataSample(metainfo=dict(sample_idx=index)).set_gt_label(
        label)) for image, label, index in zip(batch['inputs'], batch['labels'].tolist(), range(100, 200))])


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('options', [
    dict(), dict(NORMALISED, to_rgb=True),
    dict(NORMALISED, pad_size_divisor=5, pad_value=3, to_onehot=True), dict(NORMALISED, batch_augments=MIXED),
])
def test_all_settings_mean_what_they_mean_in_mmpretrain(options, training):
    results = []
    for kind, collate in ((BatchedDataPreprocessor, dict), (ClsDataPreprocessor, as_samples)):
        preprocessor, seen = kind(**copy.deepcopy(options)), []  # RandomBatchAugment writes into its probs
        np.random.seed(1)
        torch.manual_seed(1)
        for _ in range(4):  # mixup, CutMix and neither come up
            seen.append(preprocessor(collate(make_batch()), training))
        results.append(seen)
    for ours, theirs in zip(*results):
        assert torch.equal(ours['inputs'], theirs['inputs']) and ours['inputs'].dtype == torch.float32
        for sample, expected in zip(ours['data_samples'], theirs['data_samples']):
            assert torch.equal(sample.gt_label, expected.gt_label) and sample.gt_label.dtype == torch.int64
            assert ('gt_score' in sample) == ('gt_score' in expected)
            if 'gt_score' in sample:
                assert torch.equal(sample.gt_score, expected.gt_score)
                assert sample.gt_score.dtype == expected.gt_score.dtype and sample.num_classes == 10
            assert training or sample.sample_idx == expected.sample_idx


def test_padding_is_black_before_it_is_normalised():
    """Zeros of the bytes, not of the network's input: so the protocol has it."""
    white = dict(make_batch(200, PadCropFlip(4, 0.5)), inputs=torch.full((200, 3, 32, 32), 255, dtype=torch.uint8))
    inputs = BatchedDataPreprocessor(**NORMALISED)(white, training=True)['inputs']
    mean, std = (torch.tensor(NORMALISED[name]) for name in ('mean', 'std'))
    for channel, black, bright in zip(inputs.unbind(1), -mean / std, (255 - mean) / std):
        assert channel.unique().tolist() == pytest.approx([black.item(), bright.item()])


class Copies(TorchDispatchMode):
    """Counts what is moved to another device."""

    moved = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if 'copy' in str(function) and isinstance(out, torch.Tensor) and out.device != args[0].device:
            self.moved += 1
        return out


def test_no_sample_is_moved_to_the_device_alone():
    """Images, labels and the augmentation's random numbers: three copies, however many samples."""
    preprocessor = BatchedDataPreprocessor(**NORMALISED).to('meta')
    with Copies() as copies:
        data = preprocessor(make_batch(64, PadCropFlip(4, 0.5)), training=True)
    assert copies.moved == 3
    assert data['inputs'].device.type == 'meta' and len(data['data_samples']) == 64
    assert all(sample.gt_label.device.type == 'meta' for sample in data['data_samples'])
