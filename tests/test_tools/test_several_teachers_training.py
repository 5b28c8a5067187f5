"""Several teachers through the entry points: log and metrics."""
import json

import pytest
import torch

from tests.conftest import TINY_TRAINING, run_here, scalars, tiny_classifier, weights

pytestmark = pytest.mark.usefixtures('in_process')

ATSC = TINY_TRAINING + """
student = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkd_atsc.CIFARResNet', depth=8, widths=(4, 4, 4, 8)),
    neck=dict(type='mmkd_atsc.MultiFeatureProjector', projectors=dict(
        big=dict(in_channels=8, out_channels=16), twin=dict(in_channels=8, out_channels=16))),
    head=dict(type='mmkd_atsc.MultiClassifierHead'))
model = dict(
    type='mmkd_atsc.AdaptiveTeacherDistill', architecture=student, teacher=dict(big=TEACHER, twin=TEACHER),
    teacher_ckpt=dict(big=BIG, twin=TWIN), teacher_weights=dict(big=3, twin=1))
custom_hooks = [dict(type='mmkd_atsc.AdaptiveTeacherHook', start=1, interval=2)]
val_cfg = dict(type='mmkd_atsc.DistillValLoop', teachers=True)
test_cfg = dict(type='mmkd_atsc.DistillTestLoop', teachers=True)
default_hooks.update(checkpoint=dict(type='CheckpointHook', interval=1, save_best='twin/accuracy/top1'))
train_cfg.update(max_epochs=3)
optim_wrapper['optimizer']['lr'] = 0.01
"""


@pytest.fixture
def config(tmp_path, teacher_checkpoint):
    twin = tmp_path / 'twin.pth'
    changed = weights(teacher_checkpoint)
    changed['head.fc.bias'] = changed['head.fc.bias'] + 100 * torch.eye(10)[3]  # it answers 3, whatever it sees
    torch.save(dict(state_dict=changed), twin)
    path = tmp_path / 'several.py'
    path.write_text(f'TEACHER = {tiny_classifier(8)!r}\nBIG = {teacher_checkpoint!r}\nTWIN = {str(twin)!r}\n{ATSC}')
    return path


def test_log_metrics_and_test(config, tmp_path):
    whole = tmp_path / 'whole'
    run_here('train.py', config, '--work-dir', whole)
    said, = (log.read_text() for log in whole.glob('*/*.log'))
    assert f'CIFARResNet, 6,530 parameters, from {tmp_path / "teacher.pth"}, weight 0.75' in said
    assert f'from {tmp_path / "twin.pth"}, weight 0.25' in said
    logged = scalars(whole)
    scores = [line for line in logged if 'student/accuracy/top1' in line]
    assert len(scores) == 3 and all({'big/accuracy/top1', 'twin/accuracy/top1'} < set(line) for line in scores)
    assert {'big/drift', 'twin/drift', 'distill.twin.loss_align', 'big.loss'} < set(logged[-2])
    assert scores[0]['twin/accuracy/top1'] == pytest.approx(100 * 18 / 197) != scores[0]['big/accuracy/top1']
    assert list(whole.glob('best_twin_accuracy_top1_epoch_*.pth'))

    (tmp_path / 'twin.pth').rename(tmp_path / 'moved')  # the checkpoint holds it
    run_here('test.py', config, whole / 'epoch_3.pth', '--work-dir', whole, '--out', tmp_path / 'm.json')
    metrics = json.loads((tmp_path / 'm.json').read_text())
    assert metrics == pytest.approx({key: scores[-1][key] for key in metrics}) and len(metrics) == 3
