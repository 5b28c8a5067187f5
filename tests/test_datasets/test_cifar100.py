"""The real CIFAR-100, where MMKD_DATA_ROOT says that it is."""
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS

from tests.conftest import ROOT, needs_cifar100, run_tool

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


def test_a_teachers_config_trains_a_step_and_validates(tmp_path):
    done = run_tool('train.py', CONFIG, '--work-dir', tmp_path, '--cfg-options', 'train_cfg.max_epochs=1',
                    'train_dataloader.dataset.indices=64', 'val_dataloader.dataset.indices=256',
                    'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False',
                    'val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False',
                    'default_hooks.logger.interval=1')
    assert done.returncode == 0, done.stderr
    assert 'Epoch(train) [1][1/1]' in done.stdout and 'accuracy/top5' in done.stdout
