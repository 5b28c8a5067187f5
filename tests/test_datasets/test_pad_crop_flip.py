"""The protocol's augmentation, batched: MMPretrain's bit for bit at equal offsets and flips, and uniform over them."""
import itertools

import numpy as np
import pytest
import torch
from mmcv.transforms import RandomFlip
from mmpretrain.datasets.transforms import PackInputs, RandomCrop

from mmkd_atsc.datasets import pad_crop_flip as module
from mmkd_atsc.datasets.pad_crop_flip import PadCropFlip, pad_crop_flip, read_pipeline

ALL = list(itertools.product(range(9), range(9), (False, True)))


def test_it_is_mmpretrains_at_every_offset_and_flip(monkeypatch):
    """One image for each of the 162 outcomes, through MMPretrain's transforms with their random numbers given."""
    images = np.random.RandomState(0).randint(256, size=(len(ALL), 32, 32, 3), dtype=np.uint8)
    expected = []
    for image, (row, column, flip) in zip(images, ALL):
        crop = RandomCrop(crop_size=32, padding=4)
        monkeypatch.setattr(crop, 'rand_crop_params', lambda _, offset=(row, column): (*offset, 32, 32))
        sample = dict(img=image, gt_label=0)
        for transform in (crop, RandomFlip(prob=float(flip), direction='horizontal'), PackInputs()):
            sample = transform(sample)
        expected.append(sample['inputs'])
    rows, columns, flips = (torch.tensor(values) for values in zip(*ALL))
    ours = pad_crop_flip(torch.from_numpy(images).permute(0, 3, 1, 2), rows, columns, flips, padding=4)
    assert ours.dtype == torch.uint8 and ours.is_contiguous() and torch.equal(ours, torch.stack(expected))


def offsets_and_flips(augment, count):
    """Which offset and flip each of ``count`` images got, read off images whose pixels are numbered from 0 on."""
    side = 2 * augment.padding + 1  # then the middle of a crop is the pixel at its offset, whether it is flipped or not
    middle = augment.padding
    numbered = torch.arange(side * side, dtype=torch.int32).view(1, 1, side, side).expand(count, 1, side, side)
    crops = augment(numbered)[:, 0]
    offset = crops[:, middle, middle].long()
    at_an_edge = offset % side == side - 1  # to its right there is padding, whose zero says nothing
    right, left = crops[:, middle, middle + 1], crops[:, middle, middle - 1]
    return offset, torch.where(at_an_edge, right == offset - 1, left == offset + 1)


def test_offsets_are_uniform_and_flips_independent_of_them():
    count, flip_prob = 81 * 800, 0.2
    offset, flip = offsets_and_flips(PadCropFlip(4, flip_prob), count)
    seen = torch.bincount(offset * 2 + flip, minlength=162).double().view(81, 2)
    expected = count / 81 * torch.tensor([1 - flip_prob, flip_prob], dtype=torch.float64)
    chi_squared = ((seen - expected) ** 2 / expected).sum().item()
    assert 90 < chi_squared < 260  # 161 degrees of freedom: 161 +- 18; even draws would give 0


def test_processes_that_were_seeded_alike_augment_differently(monkeypatch):
    """And by the same distribution: each takes its part of one draw."""
    drawn = []
    for rank in range(3):
        monkeypatch.setattr(module, 'get_dist_info', lambda rank=rank: (rank, 3))
        torch.manual_seed(5)
        drawn.append(offsets_and_flips(PadCropFlip(4, 0.5), 2000)[0])
    for one, other in itertools.combinations(drawn, 2):
        assert (one == other).double().mean() < 0.05  # by chance 1 in 81
    assert torch.cat(drawn).unique().numel() == 81


@pytest.mark.parametrize('pipeline, expected', [
    ([RandomCrop(32), PackInputs()], PadCropFlip(0, 0.0)),
    ([RandomCrop(32, padding=2), RandomFlip(0.5), PackInputs()], PadCropFlip(2, 0.5)),
    ([RandomFlip(0.25), PackInputs()], PadCropFlip(0, 0.25)),
])
def test_parts_of_the_protocol_are_read(pipeline, expected):
    assert read_pipeline(pipeline, 32, 'BatchedCIFAR100') == expected


@pytest.mark.parametrize('pipeline, named', [
    ([RandomCrop(28)], r'RandomCrop\(crop_size=\(28, 28\)'),
    ([RandomCrop(32, padding=4, padding_mode='reflect')], 'padding_mode=reflect'),
    ([RandomFlip(0.5, direction='vertical')], 'vertical'),
    ([RandomFlip(0.5), RandomCrop(32, padding=4)], 'RandomCrop'),
])
def test_anything_else_is_refused(pipeline, named):
    with pytest.raises(ValueError, match=rf'^pipeline: BatchedCIFAR100 takes .* not .*{named}.*; CIFAR100 takes any$'):
        read_pipeline(pipeline, 32, 'BatchedCIFAR100')
