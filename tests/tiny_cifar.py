"""A batched CIFAR-100 of 70 random images in memory, for tests that train; importing this registers it."""
import numpy as np
from mmengine.hooks import Hook
from mmpretrain.datasets import CIFAR100

from mmkd_atsc.datasets import BatchedCIFAR100
from mmkd_atsc.engine.teacher_cache import draw_epoch, repeat_augmentation
from mmkd_atsc.registry import DATASETS, HOOKS

AUGMENT = [dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4),
           dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'), dict(type='mmpretrain.PackInputs')]


class _InMemory(CIFAR100):

    def load_data_list(self):
        random = np.random.RandomState(0)
        return [dict(img=random.randint(256, size=(32, 32, 3), dtype=np.uint8), gt_label=label)
                for label in random.randint(10, size=70).tolist()]


@DATASETS.register_module(force=True)
class TinyCIFAR10(_InMemory):
    """As many images of each class."""

    METAINFO = {'classes': tuple('0123456789')}

    def load_data_list(self):
        return [dict(item, gt_label=number % 10) for number, item in enumerate(super().load_data_list())]


@DATASETS.register_module(force=True)  # pytest and a config may both import this file
class TinyCIFAR100(BatchedCIFAR100, _InMemory):
    METAINFO = {'classes': tuple('0123456789')}

    def __init__(self, pipeline=AUGMENT, **options):
        super().__init__(**{'data_root': 'none', 'download': False, **options}, pipeline=pipeline)


@HOOKS.register_module(force=True)
class RepeatedAugmentation(Hook):
    """Augments as a teacher cache of so many epochs does, and leaves the teachers alone."""

    def __init__(self, seed, epochs):
        self.seed, self.epochs = seed, epochs

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        repeat_augmentation(data_batch, draw_epoch(self.seed, runner.epoch % self.epochs, 70))
