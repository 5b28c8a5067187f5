"""The tool's file trains through the tools: resumed, in two processes, scored, and refused in one line."""

import pytest
import torch

from tests.conftest import ROOT, refusal, run_here, tiny_classifier, tool, weights
from tests.test_readme import commands

CONFIG = """
_base_ = ['mmkd_atsc::_base_/distill.py']
default_scope = 'mmpretrain'
custom_imports = dict(imports=['tests.tiny_cifar'])
model = dict(
    type='mmkd_atsc.MultiTeacherDistill', architecture=STUDENT, teacher=TEACHER, teacher_ckpt=CHECKPOINT,
    distiller=dict(type='mmkd_atsc.AEKTDistiller', num_classes=10))
data_preprocessor = dict(
    type='mmkd_atsc.BatchedDataPreprocessor', num_classes=10, mean=[127.5] * 3, std=[64.] * 3)
train_dataloader = dict(
    batch_size=16, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='mmkd_atsc.collate_batch'), dataset=dict(type='mmkd_atsc.TinyCIFAR100'))
val_dataloader = test_dataloader = train_dataloader
val_evaluator = test_evaluator = dict(type='Accuracy')
val_cfg = dict(type='mmkd_atsc.DistillValLoop', teachers=True)
test_cfg = dict(type='mmkd_atsc.DistillTestLoop', teachers=True)
default_hooks = _base_.distill.default_hooks
optim_wrapper = dict(_base_.distill.optim_wrapper, optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
train_cfg = dict(_base_.distill.train_cfg, max_epochs=3)
randomness = dict(seed=0)
"""


@pytest.fixture
def config(tmp_path, teacher_checkpoint, monkeypatch, in_process):
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    path = tmp_path / 'config.py'
    path.write_text(f'STUDENT = {tiny_classifier(4)!r}\nTEACHER = {tiny_classifier(8)!r}\n'
                    f'CHECKPOINT = {teacher_checkpoint!r}\n{CONFIG}')
    return path


def assert_same(one, other, **tolerance):
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], msg=lambda text, key=key: f'{key}: {text}', **tolerance)


def test_recorded_trained_resumed_and_scored(config, tmp_path, capsys):
    cache = tmp_path / 'caches' / 'cache'
    run_here('cache_teacher.py', config, '--out', cache, '--epochs', 2, '--seed', 5, '--dtype', 'float32', '--batch',
             32)
    printed = capsys.readouterr().out
    assert '2,800 bytes an epoch' in printed
    assert f'wrote {cache}: teacher on 70 images of TinyCIFAR100, 2 epochs, 0.0 MB' in printed

    calm = 'optim_wrapper.optimizer.lr=0.002'  # faster, a training enlarges rounding
    cached = ['--cfg-options', calm, f'model.teacher_cache={cache}']
    live = ['--cfg-options', calm, 'data_preprocessor.augment_seed=5', 'data_preprocessor.augment_epochs=2']
    run_here('train.py', config, '--work-dir', tmp_path / 'live', *live)
    run_here('train.py', config, '--work-dir', tmp_path / 'whole', *cached)
    whole = weights(tmp_path / 'whole' / 'epoch_3.pth')
    assert_same(whole, weights(tmp_path / 'live' / 'epoch_3.pth'), atol=1e-5, rtol=1e-5)

    log, = (tmp_path / 'whole').glob('*/*.log')
    assert log.read_text().count(f'{cache}: has the augmentation of 2 of the 3 epochs, and repeats it') == 1

    # In the third epoch the augmentation is the first one's again, for a run that has begun with it too.
    run_here('train.py', config, '--work-dir', tmp_path / 'rest', *cached, '--resume',
             str(tmp_path / 'whole' / 'epoch_2.pth'))
    assert_same(whole, weights(tmp_path / 'rest' / 'epoch_3.pth'), atol=0, rtol=0)

    cache.unlink()  # scoring and export need neither it nor the teacher's checkpoint
    run_here('export_student.py', config, tmp_path / 'whole' / 'epoch_3.pth', '--out', tmp_path / 'student', *cached)
    assert (tmp_path / 'student' / 'student.pth').is_file()
    run_here('test.py', config, tmp_path / 'whole' / 'epoch_3.pth', *cached)
    assert 'teacher/accuracy/top1' in capsys.readouterr().out


def test_other_data_stop_the_training_in_one_line(config, tmp_path, capsys):
    cache = tmp_path / 'cache'
    run_here('cache_teacher.py', config, '--out', cache, '--topk', 3)
    line = refusal(capsys, 'train.py', config, '--work-dir', tmp_path / 'w', '--cfg-options',
                   f'model.teacher_cache={cache}', 'train_dataloader.dataset.indices=50')
    assert line == (f'error: {cache}: was recorded with 70 images (TinyCIFAR100), the data set has 50; record one for '
                    'this config with tools/cache_teacher.py\n')
    assert not list((tmp_path / 'w').glob('*.pth'))


@pytest.mark.parametrize('args, words', [
    (['configs/demo/atsc_digits.py'], 'AdaptiveTeacherDistill adapts its teacher'),
    (['configs/demo/teacher_digits.py'], "model.type='mmpretrain.ImageClassifier' has no teacher to cache"),
    (['configs/demo/aekt_digits.py', '--cfg-options', 'model.allow_random_teacher=True', 'model.teacher_ckpt=None'],
     "teacher_cache needs images that are augmented in batches: data set type='mmkd_atsc.BatchedCIFAR100'"),
    ([None, '--cfg-options', 'train_dataloader.dataset.type=mmkd_atsc.Digits'],
     'the training data are a Digits; a cache needs images that are augmented in batches'),
    ([None, '--topk', '10'], 'topk=10 must be an integer at least 1 and at most 9'),
    ([None, '--tau', '0'], 'tau=0.0 must be a number greater than 0'),
])
def test_what_cannot_be_recorded_is_said_in_one_line(config, tmp_path, capsys, args, words):
    path = config if args[0] is None else ROOT / args[0]
    assert words in refusal(capsys, 'cache_teacher.py', path, '--out', tmp_path / 'cache', *args[1:])
    assert not (tmp_path / 'cache').exists()


def test_the_documented_commands_are_ones_that_the_tool_takes():
    parse_args = tool('cache_teacher.py')['parse_args']
    lines = [words for words in commands(ROOT / 'configs' / 'aekt' / 'README.md') if 'tools/cache_teacher.py' in words]
    assert lines
    for words in lines:
        assert (ROOT / parse_args(words[2:]).config).is_file()
