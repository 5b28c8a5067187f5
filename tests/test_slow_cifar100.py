"""Short runs on the real CIFAR-100; ``MMKD_DATA_ROOT=... pytest -m slow`` (minutes)."""
import json

import pytest

from tests.conftest import needs_cifar100, run_tool

pytestmark = [pytest.mark.slow, needs_cifar100]

SHORT = """
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(indices=2000))
test_dataloader = val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(indices=1000))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=12, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=12, val_interval=12)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=12))
"""


def train(path, text, work_dir):
    path.write_text(text + SHORT)
    done = run_tool('train.py', path, '--work-dir', work_dir, timeout=1200)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for file in sorted(work_dir.glob('*/vis_data/scalars.json')) for line in file.open()]


def test_atsc_learns_from_2000_images(tmp_path):
    train(tmp_path / 'teacher.py', "_base_ = ['mmkd_atsc::teachers/resnet14_cifar100.py']\n", tmp_path / 'teacher')
    logged = train(tmp_path / 'atsc.py', f"""
_base_ = ['mmkd_atsc::_base_/models/resnet14.py', 'mmkd_atsc::_base_/models/resnet8.py',
          'mmkd_atsc::_base_/methods/atsc_cifar100.py']
model = dict(
    architecture=dict(backbone=_base_.resnet8.backbone),
    teacher=_base_.resnet14,
    teacher_ckpt={str(tmp_path / 'teacher' / 'epoch_12.pth')!r})
""", tmp_path / 'atsc')
    alignment = [line['distill.loss_align'] for line in logged if 'distill.loss_align' in line]
    assert alignment[-1] < 0.5 * alignment[0]
    # Chance is 1%; 12 epochs of 2,000 images take even the teacher only to some 9%.
    assert [line['student/accuracy/top1'] for line in logged if 'student/accuracy/top1' in line][-1] > 3
    assert [line['teacher/accuracy/top1'] for line in logged if 'teacher/accuracy/top1' in line][-1] > 3
