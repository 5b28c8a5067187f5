"""AEKT through the entry points: trained, warmed up, resumed."""
import pytest
import torch

from tests.conftest import TINY_TRAINING, assert_same_weights, run_here, scalars, tiny_classifier, weights

pytestmark = pytest.mark.usefixtures('in_process')

AEKT = TINY_TRAINING + """
model = dict(
    type='mmkd_atsc.MultiTeacherDistill', architecture=model, teacher=TEACHER, teacher_ckpt=CHECKPOINT,
    distiller=dict(type='mmkd_atsc.AEKTDistiller', num_classes=10, beta=2.0, fc_lr_mult=0.1, gamma=1.0, max_pull=None))
custom_hooks = [dict(type='mmkd_atsc.DistillWarmupHook', epochs=3)]
log_processor = dict(window_size=1)
default_hooks.update(logger=dict(type='LoggerHook', interval=1))
train_cfg.update(max_epochs=4)
val_cfg = dict(type='mmkd_atsc.DistillValLoop')
test_cfg = dict(type='mmkd_atsc.DistillTestLoop')
"""

def steps(work_dir):
    """The logged training steps, in order."""
    return [line for line in scalars(work_dir) if 'loss' in line]


def test_train_warm_up_and_resume(teacher_checkpoint, tmp_path):
    config, whole, rest = tmp_path / 'config.py', tmp_path / 'whole', tmp_path / 'rest'
    config.write_text(f'TEACHER = {tiny_classifier(8)!r}\nCHECKPOINT = {teacher_checkpoint!r}\n{AEKT}')
    run_here('train.py', config, '--work-dir', whole)
    assert 'student/accuracy/top1' in scalars(whole)[-1]
    logged = steps(whole)
    assert len(logged) == 16  # four steps in each of four epochs
    for line in logged:
        terms = {name[len('distill.'):]: value for name, value in line.items() if name.startswith('distill.')}
        full = 16 * (terms['tckd'] + 2 * terms['nckd'] + terms['target'])
        assert terms['loss_aekt'] / full == pytest.approx(min(line['epoch'] / 3, 1), rel=1e-4)
        assert line['loss'] == pytest.approx(line['student.loss'] + terms['loss_aekt'], rel=1e-4)
        assert {'ratio', 'student_confidence', 'teacher_confidence', 'accuracy_before_fc',
                'accuracy_after_fc'} <= terms.keys()

    # Resumed in the middle of the warm-up, the run ends with the weights of the unbroken one.
    run_here('train.py', config, '--work-dir', rest, '--resume', whole / 'epoch_2.pth')
    assert [line['epoch'] for line in steps(rest)] == [3] * 4 + [4] * 4
    unbroken, layer = weights(whole / 'epoch_4.pth'), 'distiller.connectors.fc.fc.weight'
    assert_same_weights(unbroken, weights(rest / 'epoch_4.pth'))
    assert 0 < (unbroken[layer] - torch.eye(10)).abs().max() < 0.5
