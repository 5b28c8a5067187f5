"""The real CIFAR-100, where MMKD_DATA_ROOT says that it is."""
import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS

from tests.conftest import ROOT, needs_cifar100


@needs_cifar100
def test_the_images_are_those_that_the_config_normalises_by():
    config = Config.fromfile(ROOT / 'configs' / 'teachers' / 'resnet8_cifar100.py')
    for part, count in (('train', 500), ('val', 100)):
        data = DATASETS.build(dict(config[f'{part}_dataloader'].dataset, pipeline=[]))
        images = np.stack([data[i]['img'] for i in range(len(data))])
        assert images.shape == (100 * count, 32, 32, 3) and images.dtype == np.uint8
        assert np.bincount([data[i]['gt_label'] for i in range(len(data))]).tolist() == [count] * 100
        if part == 'train':
            pixels = images.reshape(-1, 3).astype(np.float64)
            assert np.abs(pixels.mean(0) - config.data_preprocessor.mean).max() < 0.5
            assert np.abs(pixels.std(0) - config.data_preprocessor.std).max() < 0.5
