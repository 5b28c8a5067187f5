"""The config is the whole truth: a bare Runner and MMPretrain's script train as tools/train.py does."""
import sys
from pathlib import Path

import mmpretrain
import pytest
import torch

from tests.conftest import ROOT, assert_same_weights, run_command, tiny_classifier
from tests.conftest import weights as weights_of

STOCK_SCRIPT = Path(mmpretrain.__file__).parent / '.mim' / 'tools' / 'train.py'

BASE = """
_base_ = [{base!r}]
teacher = {teacher!r}
custom_imports = dict(imports=['tests.tiny_cifar'])
model = dict(teacher=teacher, teacher_ckpt={checkpoint!r}, **{student!r})
data = dict(_delete_=True, type='mmkd_atsc.TinyCIFAR100')
train_dataloader = dict(batch_size=14, dataset=data)
val_dataloader = test_dataloader = dict(dataset=data)
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


def write(path, method, student, checkpoint):
    base = ROOT / 'configs' / '_base_' / 'methods' / f'{method}_cifar100.py'
    path.write_text(BASE.format(base=str(base), teacher=tiny_classifier(8), checkpoint=checkpoint, student=student))
    return path


@pytest.mark.parametrize('method, student', [('aekt', AEKT), ('atsc', ATSC)])
def test_five_steps_give_the_same_weights(method, student, teacher_checkpoint, tmp_path):
    config = write(tmp_path / f'{method}.py', method, student, teacher_checkpoint)
    ways = dict(ours=(ROOT / 'tools' / 'train.py', config, '--work-dir'), bare=('-c', BARE, config),
                stock=(STOCK_SCRIPT, config, '--work-dir'))
    weights = []
    for name, words in ways.items():
        done = run_command(sys.executable, *words, tmp_path / name, PYTHONPATH=str(ROOT))
        assert done.returncode == 0, done.stderr[-2000:]
        weights.append(weights_of(tmp_path / name / 'epoch_1.pth'))
    start = weights_of(teacher_checkpoint)['head.fc.weight']
    assert torch.equal(start, weights[0]['teachers.teacher.model.head.fc.weight']) == (method == 'aekt')
    for other in weights[1:]:
        assert_same_weights(weights[0], other)
