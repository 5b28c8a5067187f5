"""The demo's data: real images, split once and for all."""
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mmkd_atsc.datasets import Digits


def test_the_parts_are_all_digits_as_grey_images_with_their_labels():
    digits = load_digits()
    known = {image.tobytes(): label for image, label in
             zip((digits.images * (255 / 16)).round().astype(np.uint8), digits.target)}
    parts = [Digits(split=split, pipeline=[]) for split in ('train', 'test')]
    assert [len(part) for part in parts] == [400, 1397]
    samples = [part[i] for part in parts for i in range(len(part))]
    images = np.stack([sample['img'] for sample in samples])
    assert images.shape == (1797, 32, 32, 3) and images.dtype == np.uint8 and images.max() == 255
    blocks = images.reshape(1797, 8, 4, 8, 4, 3)
    assert (blocks == blocks[:, :, :1, :, :1, :1]).all()
    small = [image.tobytes() for image in np.ascontiguousarray(images[:, ::4, ::4, 0])]
    assert sorted(small) == sorted(known) and [known[image] for image in small] == [s['gt_label'] for s in samples]


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)
    with pytest.raises(ImportError, match=r'pip install "mmkd_atsc\[demo\]"'):
        Digits(pipeline=[])
