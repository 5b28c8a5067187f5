"""AEKT and MMRazor's losses through the entry points: trained, warmed up, resumed."""
import pytest
import torch

from tests.conftest import TINY_TRAINING, assert_same_weights, refusal, run_here, scalars, tiny_classifier, weights

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

MMRAZOR = AEKT + """
answers = dict(preds_S=dict(from_student=True, recorder='logits'), preds_T=dict(from_student=False, recorder='logits'))
model.update(distiller=dict(
    type='mmrazor.ConfigurableDistiller',
    student_recorders=dict(logits=dict(type='ModuleOutputs', source='head'),
                           labels=dict(type='ModuleInputs', source='head.loss_module')),
    teacher_recorders=dict(logits=dict(type='ModuleOutputs', source='head')),
    distill_losses=dict(loss_kd=dict(type='mmrazor.KLDivergence', tau=4, loss_weight=0.9),
                        loss_dkd=dict(type='mmrazor.DKDLoss', tau=4, beta=2.0, reduction='sum', loss_weight=1 / 100)),
    loss_forward_mappings=dict(
        loss_kd=answers, loss_dkd=dict(gt_labels=dict(from_student=True, recorder='labels', data_idx=1), **answers))))
custom_hooks = [dict(type='mmkd_atsc.DistillWarmupHook', epochs=3, losses=['loss_dkd'])]
# One batch of all images, and nothing learns: from epoch to epoch only the weight can change a loss.
train_dataloader.update(batch_size=100)
optim_wrapper.update(optimizer=dict(type='SGD', lr=0.0))
val_cfg = val_dataloader = val_evaluator = None
"""


@pytest.fixture
def write_config(tmp_path, teacher_checkpoint):
    def write(text):
        path = tmp_path / 'config.py'
        path.write_text(f'TEACHER = {tiny_classifier(8)!r}\nCHECKPOINT = {teacher_checkpoint!r}\n{text}')
        return path
    return write


def steps(work_dir):
    """The logged training steps, in order."""
    return [line for line in scalars(work_dir) if 'loss' in line]


def test_train_warm_up_and_resume(write_config, tmp_path):
    config, whole, rest = write_config(AEKT), tmp_path / 'whole', tmp_path / 'rest'
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


def test_mmrazors_losses_come_in_slowly_too(write_config, tmp_path):
    run_here('train.py', write_config(MMRAZOR), '--work-dir', tmp_path / 'w')
    logged = steps(tmp_path / 'w')
    full = logged[-1]['distill.loss_dkd']
    assert full > 0 and [line['epoch'] for line in logged] == [1, 2, 3, 4]
    for line, share in zip(logged, (1 / 3, 2 / 3, 1, 1)):
        assert line['distill.loss_dkd'] == pytest.approx(share * full, rel=1e-3)
        assert line['distill.loss_kd'] == pytest.approx(logged[-1]['distill.loss_kd'], rel=1e-3)  # not named


def test_a_wrong_option_is_named_in_one_line(write_config, tmp_path, capsys):
    assert "AEKTDistiller has no option 'gama'; did you mean 'gamma'?" in refusal(
        capsys, 'train.py', write_config(AEKT), '--work-dir', tmp_path / 'w', '--cfg-options',
        'model.distiller.gama=1.0')
