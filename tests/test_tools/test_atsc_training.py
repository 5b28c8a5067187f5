"""ATSC through the entry points: adaptation windows, resume, whose metric is whose, several teachers."""
import json
from types import SimpleNamespace

import pytest
import torch

from mmkd_atsc.engine import AdaptiveTeacherHook
from tests import conftest
from tests.conftest import assert_same_weights, refusal, run_here, scalars, tiny_classifier, weights

pytestmark = pytest.mark.usefixtures('in_process')

ATSC = conftest.TINY_TRAINING + """
student = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkd_atsc.CIFARResNet', depth=8, widths=(4, 4, 4, 8)),
    neck=dict(type='mmkd_atsc.FeatureProjector', in_channels=8, out_channels=16),
    head=dict(type='mmkd_atsc.SharedClassifierHead'))
model = dict(
    type='mmkd_atsc.AdaptiveTeacherDistill', architecture=student, teacher=TEACHER, teacher_ckpt=CHECKPOINT,
    distiller=dict(type='mmkd_atsc.ATSCDistiller', anchor_min_dims=2))
custom_hooks = [dict(type='mmkd_atsc.AdaptiveTeacherHook', start=1, stop=2, interval=2)]
val_cfg = dict(type='mmkd_atsc.DistillValLoop', teachers=True)
test_cfg = dict(type='mmkd_atsc.DistillTestLoop')
train_cfg.update(max_epochs=3)
default_hooks.update(checkpoint=dict(type='CheckpointHook', interval=1, save_best='student/accuracy/top1'))
"""
OF_TEACHER = 'teachers.teacher.model.'


@pytest.fixture
def atsc_config(tmp_path, teacher_checkpoint):
    path = tmp_path / 'atsc.py'
    path.write_text(f'TEACHER = {tiny_classifier(8)!r}\nCHECKPOINT = {teacher_checkpoint!r}\n{ATSC}')
    return path


@pytest.fixture
def start(teacher_checkpoint):
    return weights(teacher_checkpoint)


def teacher_of(path):
    return {key[len(OF_TEACHER):]: value for key, value in weights(path).items() if key.startswith(OF_TEACHER)}


def assert_moved_in_the_window_only(start, before, within, after):
    """The teachers of three checkpoints, the second of the end of the window."""
    before, within, after = map(teacher_of, (before, within, after))
    assert_same_weights(before, start)
    assert not torch.equal(before['backbone.conv1.weight'], within['backbone.conv1.weight'])
    assert_same_weights(within, after)


def epochs(folder):
    return [folder / f'epoch_{epoch}.pth' for epoch in (1, 2, 3)]


def test_one_process_window_metrics_resume_and_test(atsc_config, start, tmp_path):
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    run_here('train.py', atsc_config, '--work-dir', whole)
    assert_moved_in_the_window_only(start, *epochs(whole))

    logged = scalars(whole)
    scores = [line for line in logged if 'student/accuracy/top1' in line]
    assert len(scores) == 3 and all('teacher/accuracy/top1' in line for line in scores)
    # A value once logged stays in MMEngine's buffer, so the frozen last epoch repeats the last drift.
    drift = [line['teacher/drift'] for line in logged if 'teacher/drift' in line][-1]
    adapted = teacher_of(whole / 'epoch_2.pth')
    encoder = [key for key, value in start.items() if key.startswith('backbone') and value.dim() > 1]
    moved, length = (sum((part ** 2).sum() for part in parts) for parts in (
        [adapted[key] - start[key] for key in encoder], [start[key] for key in encoder]))
    assert drift == pytest.approx(float((moved / length).sqrt()), rel=1e-3) and 'teacher/drift.layer1' in logged[-2]

    for extra in (['--cfg-options', 'train_cfg.max_epochs=2'], ['--resume']):
        run_here('train.py', atsc_config, '--work-dir', parts, *extra)
    assert any('is frozen in epoch 3 on' in log.read_text() for log in parts.glob('*/*.log'))
    assert_moved_in_the_window_only(start, *epochs(parts))

    run_here('test.py', atsc_config, whole / 'epoch_3.pth', '--work-dir', whole, '--out', tmp_path / 'm.json')
    metrics = json.loads((tmp_path / 'm.json').read_text())
    assert metrics['student/accuracy/top1'] == pytest.approx(scores[-1]['student/accuracy/top1'])


def test_a_training_by_iterations_has_its_window(atsc_config, start, tmp_path, capsys):
    atsc_config.write_text(atsc_config.read_text() + """
train_cfg, param_scheduler = dict(by_epoch=False, max_iters=6, val_interval=3), None
default_hooks.update(checkpoint=dict(type='mmkd_atsc.AtomicCheckpointHook', interval=2, by_epoch=False))
custom_hooks[0].update(start=2, stop=4)
""")
    assert 'AdaptiveTeacherHook counts epochs; a training by iterations has none' in refusal(
        capsys, 'train.py', atsc_config, '--work-dir', tmp_path / 'w')
    run_here('train.py', atsc_config, '--work-dir', tmp_path / 'w', '--cfg-options', 'custom_hooks.0.by_epoch=False')
    said = ''.join(log.read_text() for log in (tmp_path / 'w').glob('*/*.log'))
    assert 'adapts from iteration 3 on' in said and 'is frozen in iteration 5 on' in said
    assert_moved_in_the_window_only(start, *(tmp_path / 'w' / f'iter_{step}.pth' for step in (2, 4, 6)))


@pytest.mark.parametrize('option, words', [
    ('model.architecture.neck.out_channels=32', 'out_channels=16, or leave it out'),
    ('custom_hooks.0.stop=1', 'stop=1 must be an integer at least 2'),
    ('model.adaptive=False', 'AdaptiveTeacherDistill with adaptive=True'),
    ('default_hooks.checkpoint.save_best=accuracy/top1', "'accuracy/top1' must begin with student/ or teacher/"),
    ('default_hooks.checkpoint.save_best=teacher/accuracy/top1 val_cfg.every_n_epochs=2', 'every_n_epochs=1'),
    ('default_hooks.checkpoint.save_best=teacher/accuracy/top1 val_cfg.teachers=False', 'must begin with student/; '),
])
def test_wrong_configs_say_no_in_one_line(atsc_config, tmp_path, capsys, option, words):
    assert words in refusal(capsys, 'train.py', atsc_config, '--work-dir', tmp_path / 'w', '--cfg-options',
                            *option.split())


def test_a_validation_that_scores_teachers_needs_some(tiny_config, tmp_path, capsys):
    assert 'DistillValLoop scores teachers, ImageClassifier has none' in refusal(
        capsys, 'train.py', tiny_config, '--work-dir', tmp_path / 'w', '--cfg-options',
        'val_cfg.type=mmkd_atsc.DistillValLoop')


def test_a_floor_under_the_teachers_accuracy():
    hook = AdaptiveTeacherHook(min_teacher_accuracy=50, metric='accuracy/top5')
    runner = SimpleNamespace(model=SimpleNamespace(teachers=dict(big=None)), epoch=3,
                             message_hub=SimpleNamespace(runtime_info={}))
    hook.after_val_epoch(runner, {'student/accuracy/top1': 10.0})  # not the teachers' turn
    hook.after_val_epoch(runner, {'student/accuracy/top5': 10.0, 'big/accuracy/top5': 60.0})
    with pytest.raises(ValueError, match="no big/accuracy/top5; did you mean 'big/accuracy/top1'"):
        hook.after_val_epoch(runner, {'student/accuracy/top5': 10.0, 'big/accuracy/top1': 60.0})
    with pytest.raises(RuntimeError, match='big/accuracy/top5 is 40.00 in epoch 3, below'):
        hook.after_val_epoch(runner, {'student/accuracy/top5': 60.0, 'big/accuracy/top5': 40.0})


SEVERAL = ATSC + """
student.update(
    neck=dict(type='mmkd_atsc.MultiFeatureProjector', projectors=dict(
        big=dict(in_channels=8, out_channels=16), twin=dict(in_channels=8, out_channels=16))),
    head=dict(type='mmkd_atsc.MultiClassifierHead'))
model.update(teacher=dict(big=TEACHER, twin=TEACHER), teacher_ckpt=dict(big=CHECKPOINT, twin=TWIN),
             teacher_weights=dict(big=3, twin=1))
custom_hooks[0].update(stop=None)
test_cfg['teachers'] = True
default_hooks['checkpoint'].update(save_best='twin/accuracy/top1')
optim_wrapper['optimizer']['lr'] = 0.01
"""


@pytest.fixture
def several_config(tmp_path, teacher_checkpoint):
    twin = tmp_path / 'twin.pth'
    changed = weights(teacher_checkpoint)
    changed['head.fc.bias'] = changed['head.fc.bias'] + 100 * torch.eye(10)[3]  # it answers 3, whatever it sees
    torch.save(dict(state_dict=changed), twin)
    path = tmp_path / 'several.py'
    path.write_text(f'TEACHER = {tiny_classifier(8)!r}\nCHECKPOINT = {teacher_checkpoint!r}\nTWIN = {str(twin)!r}\n'
                    + SEVERAL)
    return path


def test_several_teachers_log_metrics_and_test(several_config, tmp_path, capsys):
    whole = tmp_path / 'whole'
    run_here('train.py', several_config, '--work-dir', whole)
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
    capsys.readouterr()
    run_here('test.py', several_config, whole / 'epoch_3.pth', '--work-dir', whole, '--out', tmp_path / 'm.json')
    assert capsys.readouterr().out.count('Epoch(test)') == 1  # one pass scores all
    metrics = json.loads((tmp_path / 'm.json').read_text())
    assert metrics == pytest.approx({key: scores[-1][key] for key in metrics}) and len(metrics) == 3
