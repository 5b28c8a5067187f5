"""The real CIFAR-100, where MMKD_DATA_ROOT says that it is."""
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS

from tests.conftest import ROOT, needs_cifar100

CONFIG = ROOT / 'configs' / 'teachers' / 'resnet8_cifar100.py'
pytestmark = needs_cifar100


@pytest.fixture(scope='module')
def config():
    return Config.fromfile(CONFIG)


def read(config, part):
    data = DATASETS.build(dict(config[f'{part}_dataloader'].dataset, pipeline=[]))
    images = np.stack([data[i]['img'] for i in range(len(data))])
    return data, images, np.array([data[i]['gt_label'] for i in range(len(data))])


def test_training_images_are_what_the_config_normalises_by(config):
    data, images, labels = read(config, 'train')
    assert images.shape == (50_000, 32, 32, 3) and images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [500] * 100 and len(data.metainfo['classes']) == 100
    sample = images.reshape(-1, 3).astype(np.float64)
    assert np.abs(sample.mean(0) - config.data_preprocessor.mean).max() < 0.5
    assert np.abs(sample.std(0) - config.data_preprocessor.std).max() < 0.5


def test_test_images_are_others(config):
    _, images, labels = read(config, 'val')
    assert images.shape == (10_000, 32, 32, 3) and np.bincount(labels).tolist() == [100] * 100
