"""The demo's data: real images, split once and for all."""
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mmkd_atsc.datasets import Digits


def pixels(**kwargs):
    data = Digits(pipeline=[], **kwargs)
    samples = [data[i] for i in range(len(data))]
    return np.stack([sample['img'] for sample in samples]), np.array([sample['gt_label'] for sample in samples])


def test_train_and_test_are_all_images_and_share_none():
    parts = [pixels(split=split)[0] for split in ('train', 'test')]
    small = np.concatenate(parts)[:, ::4, ::4, 0]
    ours = sorted(image.tobytes() for image in small)
    all_images = (load_digits().images * (255 / 16)).round().astype(np.uint8)
    assert [len(part) for part in parts] == [400, 1397]
    assert ours == sorted(image.tobytes() for image in all_images) and len(set(ours)) == 1797


def test_images_are_grey_bytes_of_32x32_with_each_pixel_a_block():
    images, labels = pixels()
    assert images.shape == (400, 32, 32, 3) and images.dtype == np.uint8 and images.max() == 255
    assert (images[..., 0] == images[..., 1]).all() and (images[..., 0] == images[..., 2]).all()
    blocks = images[..., 0].reshape(400, 8, 4, 8, 4)
    assert (blocks == blocks[:, :, :1, :, :1]).all()
    assert set(labels) == set(range(10))


def test_labels_belong_to_their_images():
    digits = load_digits()
    known = {image.tobytes(): label for image, label in
             zip((digits.images * (255 / 16)).round().astype(np.uint8), digits.target)}
    images, labels = pixels(split='test')
    assert [known[image.tobytes()] for image in np.ascontiguousarray(images[:, ::4, ::4, 0])] == labels.tolist()


@pytest.mark.parametrize('options, error, words', [
    (dict(split='val'), ValueError, "split='val' is not one of 'train', 'test'"),
    (dict(train_images=5), ValueError, 'train_images=5 must be an integer at least 10'),
    (dict(train_images=1797), ValueError, 'at most 1787'),
])
def test_wrong_options_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        Digits(pipeline=[], **options)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)
    with pytest.raises(ImportError, match=r'pip install "mmkd_atsc\[demo\]"'):
        Digits(pipeline=[])
