"""The real CIFAR-100, where MMKD_DATA_ROOT says that it is."""
from mmengine.config import Config
from mmengine.registry import DATASETS

from tests.conftest import ROOT, needs_cifar100


@needs_cifar100
def test_the_images_are_those_that_the_config_normalises_by():
    config = Config.fromfile(ROOT / 'configs' / 'teachers' / 'resnet8_cifar100.py')
    for part, count in (('train', 500), ('val', 100)):
        data = DATASETS.build(dict(config[f'{part}_dataloader'].dataset, pipeline=[])).data_list
        assert data.images.shape == (100 * count, 3, 32, 32)
        assert data.labels.bincount().tolist() == [count] * 100
        if part == 'train':
            pixels = data.images.transpose(0, 1).flatten(1).float()
            assert abs(pixels.mean(1).numpy() - config.data_preprocessor.mean).max() < 0.5
            assert abs(pixels.std(1).numpy() - config.data_preprocessor.std).max() < 0.5
