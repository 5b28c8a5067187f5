"""The tool's file trains through the tools: resumed, in two processes, scored, and refused in one line."""
import pytest
import torch

from tests.conftest import ROOT, TINY_TRAINING, refusal, run_here, tiny_classifier, weights
from tests.faults.trainings import Life

CONFIG = TINY_TRAINING + """
custom_imports = dict(imports=['tests.tiny_cifar'])
model = dict(
    type='mmkd_atsc.MultiTeacherDistill', architecture=STUDENT, teacher=TEACHER, teacher_ckpt=CHECKPOINT,
    distiller=dict(type='mmkd_atsc.AEKTDistiller'))
data_preprocessor['type'] = 'mmkd_atsc.BatchedDataPreprocessor'
train_dataloader.update(batch_size=16, collate_fn=dict(type='mmkd_atsc.collate_batch'),
                        dataset=dict(type='mmkd_atsc.TinyCIFAR100'))
val_dataloader = test_dataloader = train_dataloader
val_cfg = dict(type='mmkd_atsc.DistillValLoop', teachers=True)
test_cfg = dict(type='mmkd_atsc.DistillTestLoop', teachers=True)
train_cfg['max_epochs'] = 3
optim_wrapper['optimizer'].update(lr=0.002, momentum=0.9)  # faster, a training enlarges rounding
"""
LIVE = ['--cfg-options', 'default_hooks.repeated.type=mmkd_atsc.RepeatedAugmentation', 'default_hooks.repeated.seed=5',
        'default_hooks.repeated.epochs=2']


@pytest.fixture
def config(tmp_path, teacher_checkpoint, in_process):
    path = tmp_path / 'config.py'
    path.write_text(f'STUDENT = {tiny_classifier(4)!r}\nTEACHER = {tiny_classifier(8)!r}\n'
                    f'CHECKPOINT = {teacher_checkpoint!r}\n{CONFIG}')
    return path


def from_file(cache):
    return ['--cfg-options', 'default_hooks.teacher_cache.type=mmkd_atsc.TeacherCacheHook',
            f'default_hooks.teacher_cache.path={cache}']


def assert_same(one, other, tolerance):
    one, other = (weights(folder / 'epoch_3.pth') for folder in (one, other))
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], atol=tolerance, rtol=tolerance, msg=key)


def test_recorded_trained_resumed_and_scored(config, tmp_path, capsys):
    cache, whole, rest = tmp_path / 'caches' / 'cache', tmp_path / 'whole', tmp_path / 'rest'
    run_here('cache_teacher.py', config, '--out', cache, '--epochs', 2, '--seed', 5, '--batch', 32)
    assert f'wrote {cache}: teacher on 70 images, 2 epochs, 0.0 MB' in capsys.readouterr().out
    cached = from_file(cache)
    two = [Life(config, tmp_path / name, *options, processes=2) for name, options in dict(a=LIVE, b=cached).items()]
    run_here('train.py', config, '--work-dir', tmp_path / 'live', *LIVE)
    run_here('train.py', config, '--work-dir', whole, *cached)
    assert_same(whole, tmp_path / 'live', 1e-3)
    for life in two:
        assert not any(life.wait(120)), life.log.read_text()[-2000:]
    assert_same(tmp_path / 'a', tmp_path / 'b', 1e-3)

    # In the third epoch the augmentation is the first one's again, for a run that has begun with it too.
    run_here('train.py', config, '--work-dir', rest, *cached, '--resume', str(whole / 'epoch_2.pth'))
    assert_same(whole, rest, 0)

    # A resumed run compares the file again; scoring and export do not need it.
    run_here('cache_teacher.py', config, '--out', cache, '--cfg-options', 'data_preprocessor.std=[70,64,64]')
    line = refusal(capsys, 'train.py', config, '--work-dir', rest, *cached, 'train_cfg.max_epochs=4', '--resume')
    assert 'holds other logits than the teacher' in line
    cache.unlink()
    run_here('export_student.py', config, whole / 'epoch_3.pth', '--out', tmp_path / 'student', *cached)
    assert (tmp_path / 'student' / 'student.pth').is_file()
    run_here('test.py', config, whole / 'epoch_3.pth', *cached)
    assert 'teacher/accuracy/top1' in capsys.readouterr().out


@pytest.mark.parametrize('args, words', [
    (['configs/demo/teacher_digits.py'], 'for model.type=MultiTeacherDistill, not for ImageClassifier'),
    (['configs/demo/aekt_digits.py', '--cfg-options', 'model.allow_random_teacher=True', 'model.teacher_ckpt=None'],
     "a teacher cache needs images that are augmented in batches, type='mmkd_atsc.BatchedCIFAR100'"),
    ([None, '--epochs', '0'], 'epochs=0 must be an integer at least 1'),
])
def test_what_cannot_be_recorded_is_said_in_one_line(config, tmp_path, capsys, args, words):
    path = config if args[0] is None else ROOT / args[0]
    assert words in refusal(capsys, 'cache_teacher.py', path, '--out', tmp_path / 'cache', *args[1:])
    assert not (tmp_path / 'cache').exists()
