"""Trainings by tools/train.py in the test's own process, on a handful of random images."""
import json
import runpy
from pathlib import Path

import torch
from mmengine.registry import DATASETS
from mmpretrain.structures import DataSample
from torch.utils.data import Dataset

from tests.conftest import ROOT


@DATASETS.register_module(force=True)
class RandomImages(Dataset):
    """Images as a pipeline that ends in PackInputs gives them."""

    def __init__(self, size=4, side=32, num_classes=10):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(256, (size, 3, side, side), generator=generator, dtype=torch.uint8)
        self.labels = torch.randint(num_classes, (size, ), generator=generator).tolist()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return dict(inputs=self.images[index], data_samples=DataSample().set_gt_label(self.labels[index]))


DATA = """
loader = dict(
    _delete_=True, batch_size=2, num_workers=0, collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='RandomImages', side={side}, num_classes={num_classes}))
train_dataloader = val_dataloader = test_dataloader = loader
train_cfg = dict(max_epochs=1)
param_scheduler = None  # some begin after the only epoch
auto_scale_lr = dict(enable=False)
"""


def write_child(path, base, side, num_classes, more=''):
    """A config that inherits another and trains on random images."""
    path.write_text(f'_base_ = [{str(base)!r}]\n{DATA.format(side=side, num_classes=num_classes)}\n{more}')
    return path


def train(config, work_dir, *options):
    """Trains as the tool does; returns what was logged."""
    runpy.run_path(str(ROOT / 'tools' / 'train.py'))['main']([str(config), '--work-dir', str(work_dir), *options])
    file, = Path(work_dir).glob('*/vis_data/scalars.json')
    log = {}
    for line in file.open():
        log.update(json.loads(line))
    return log
