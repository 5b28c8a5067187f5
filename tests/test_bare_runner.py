"""The config is the whole truth: a bare Runner and MMPretrain's script train as tools/train.py does."""
import os
import sys

import cv2
import mmpretrain
import numpy as np
import pytest
import torch

from tests.conftest import ROOT, run_command, run_tool, tiny_classifier

BASE = """
_base_ = [{base!r}]
teacher = {teacher!r}
custom_imports = dict(imports=['tests.tiny_cifar'])
model = dict(teacher=teacher, teacher_ckpt={checkpoint!r}, **{student!r})
data = dict(_delete_=True, type='mmkd_atsc.TinyCIFAR100')
train_dataloader = dict(batch_size=14, dataset=data, persistent_workers=False)
val_dataloader = test_dataloader = dict(dataset=data, persistent_workers=False)
data_preprocessor = dict(num_classes=10)
train_cfg = dict(max_epochs=1)
default_hooks = dict(start_check=dict(min_teacher_accuracy=None))
"""
AEKT = dict(architecture=tiny_classifier(4), distiller=dict(num_classes=10))
ATSC = dict(teacher_lr_mult=0.5, architecture=dict(
    backbone=tiny_classifier(4)['backbone'], neck=dict(in_channels=8, out_channels=16)))
BARE = """
import sys
import mmkd_atsc
from mmengine.config import Config
from mmengine.runner import Runner
config = Config.fromfile(sys.argv[1])
config.work_dir = sys.argv[2]
Runner.from_cfg(config).train()
"""


def write(path, method, student, checkpoint, more=''):
    base = ROOT / 'configs' / '_base_' / 'methods' / f'{method}_cifar100.py'
    path.write_text(BASE.format(base=str(base), teacher=tiny_classifier(8), checkpoint=checkpoint, student=student)
                    + more)
    return path


def commands(config, work_dirs):
    """The ways to train, each with its work directory."""
    theirs = os.path.join(os.path.dirname(mmpretrain.__file__), '.mim', 'tools', 'train.py')
    ours, bare, stock = work_dirs
    return ([sys.executable, ROOT / 'tools' / 'train.py', config, '--work-dir', ours],
            [sys.executable, '-c', BARE, config, bare],
            [sys.executable, theirs, config, '--work-dir', stock])


@pytest.mark.parametrize('method, student', [('aekt', AEKT), ('atsc', ATSC)])
def test_five_steps_give_the_same_weights(method, student, teacher_checkpoint, tmp_path):
    config = write(tmp_path / f'{method}.py', method, student, teacher_checkpoint)
    work_dirs = [tmp_path / name for name in ('ours', 'bare', 'stock')]
    weights = []
    for command, work_dir in zip(commands(config, work_dirs), work_dirs):
        done = run_command(*command, PYTHONPATH=str(ROOT))
        assert done.returncode == 0, done.stderr[-2000:]
        checkpoint = torch.load(work_dir / 'epoch_1.pth', weights_only=True)
        assert checkpoint['meta']['iter'] == 5
        weights.append(checkpoint['state_dict'])
    start = torch.load(teacher_checkpoint, weights_only=True)['state_dict']['head.fc.weight']
    assert torch.equal(start, weights[0]['teachers.teacher.model.head.fc.weight']) == (method == 'aekt')
    for other in weights[1:]:
        assert weights[0].keys() == other.keys()
        assert [key for key, value in weights[0].items() if not torch.equal(value, other[key])] == []


def test_without_the_constructor_mmpretrains_script_refuses(teacher_checkpoint, tmp_path):
    config = write(tmp_path / 'aekt.py', 'aekt', AEKT, teacher_checkpoint,
                   "optim_wrapper = dict(constructor='DefaultOptimWrapperConstructor')\n")
    *_, theirs = commands(config, [tmp_path] * 3)
    done = run_command(*theirs, PYTHONPATH=str(ROOT))
    assert done.returncode != 0 and done.stderr.splitlines()[-1].endswith(
        "write optim_wrapper=dict(constructor='mmkd_atsc.DistillOptimWrapperConstructor')"), done.stderr[-2000:]


STOCK = """
_base_ = [{stock!r}, 'mmkd_atsc::_base_/distill.py']
model = dict(
    _delete_=True, type='mmkd_atsc.MultiTeacherDistill', architecture=_base_.model, teacher={teacher!r},
    teacher_ckpt={checkpoint!r}, distiller=dict(type='mmkd_atsc.AEKTDistiller', num_classes=10))
custom_hooks = [*_base_.get('custom_hooks', []), dict(type='mmkd_atsc.DistillWarmupHook', epochs=1)]
del _base_.train_cfg['by_epoch']
default_hooks, optim_wrapper = _base_.distill.default_hooks, _base_.distill.optim_wrapper
train_cfg, val_cfg, test_cfg = _base_.distill.train_cfg, _base_.distill.val_cfg, _base_.distill.test_cfg
"""
STUDENT = """
default_scope = 'mmpretrain'
model = {model!r}
data_preprocessor = dict(num_classes=10, mean=[127.5] * 3, std=[127.5] * 3)
loader = dict(
    batch_size=20, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True), dataset=dict(
        type='CustomDataset', data_root={folder!r}, pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]))
train_dataloader = val_dataloader = test_dataloader = loader
val_evaluator = test_evaluator = dict(type='Accuracy')
optim_wrapper = dict(optimizer=dict(type='Lamb', lr=0.01))
train_cfg = dict(by_epoch=True, max_epochs=3, val_interval=1)
val_cfg = test_cfg = dict()
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=2, max_keep_ckpts=1, save_best='auto'))
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
"""


def test_a_stock_config_keeps_its_hooks_and_saves_atomically(teacher_checkpoint, tmp_path, images):
    (tmp_path / 'stock.py').write_text(STUDENT.format(model=tiny_classifier(4), folder=images))
    (tmp_path / 'mine.py').write_text(STOCK.format(
        stock='./stock.py', teacher=tiny_classifier(8), checkpoint=teacher_checkpoint))
    done = run_tool('train.py', 'mine.py', '--work-dir', 'work', cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    for hook in ('AtomicCheckpointHook', 'EMAHook', 'DistillWarmupHook', 'StrictResumeHook'):
        assert hook in done.stdout, hook
    saved = sorted(path.name for path in (tmp_path / 'work').glob('epoch_*.pth'))
    assert saved == ['epoch_3.pth']  # interval=2, max_keep_ckpts=1, and the last
    checkpoint = torch.load(tmp_path / 'work' / 'epoch_3.pth', weights_only=True)
    assert 'ema_state_dict' in checkpoint
    assert list((tmp_path / 'work').glob('best_student_accuracy_top1_epoch_*.pth'))


@pytest.fixture
def images(tmp_path):
    """A folder of random images, two of each class."""
    random = np.random.RandomState(0)
    for index in range(20):
        (tmp_path / 'data' / str(index % 10)).mkdir(parents=True, exist_ok=True)
        image = random.randint(256, size=(32, 32, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / 'data' / str(index % 10) / f'{index}.png'), image)
    return str(tmp_path / 'data')
