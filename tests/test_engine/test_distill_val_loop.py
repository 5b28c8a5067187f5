"""One pass scores each network as it would score alone."""
import json
from types import SimpleNamespace

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.optim import ReduceOnPlateauLR
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from mmkd_atsc.datasets import Digits
from mmkd_atsc.engine.distill_val_loop import DistillValLoop
from mmkd_atsc.models.teacher import Teacher
from tests.conftest import assert_one_line_error, run_tool, tiny_classifier
from tests.test_tools.test_atsc_training import ATSC


def accuracy(network, **kwargs):
    """Counted by hand on the test images of the tiny config."""
    digits = Digits(split='test', train_images=1600, pipeline=[])
    images = torch.stack([torch.from_numpy(digits[i]['img']).permute(2, 0, 1) for i in range(len(digits))])
    labels = torch.tensor([digits[i]['gt_label'] for i in range(len(digits))])
    with torch.no_grad():
        return 100 * (network((images.float() - 127.5) / 127.5).argmax(1) == labels).float().mean().item()


@pytest.fixture
def tested(tmp_path, teacher_checkpoint):
    config = tmp_path / 'atsc.py'
    config.write_text(f'TEACHER = {tiny_classifier(8)!r}\nCHECKPOINT = {teacher_checkpoint!r}\n{ATSC}')
    done = run_tool('train.py', config, '--work-dir', tmp_path / 'w', '--cfg-options', 'train_cfg.max_epochs=1')
    assert done.returncode == 0, done.stderr
    return config, tmp_path / 'w'


def test_metrics_are_those_of_the_named_network(tested, teacher_checkpoint, tmp_path):
    config, work_dir = tested
    done = run_tool('test.py', config, work_dir / 'epoch_1.pth', '--work-dir', tmp_path / 't', '--out',
                    tmp_path / 'm.json', '--cfg-options', 'test_cfg.teachers=True')
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / 'm.json').read_text())
    assert set(metrics) == {'student/accuracy/top1', 'teacher/accuracy/top1'}
    assert done.stdout.count('Epoch(test)') == 1  # one pass
    teacher = Teacher(tiny_classifier(8), teacher_checkpoint).eval()
    assert metrics['teacher/accuracy/top1'] == pytest.approx(accuracy(teacher), abs=1e-3)
    # Frozen in its first epoch, the teacher is scored by validation as by test.
    logged = [json.loads(line) for file in work_dir.glob('*/vis_data/scalars.json') for line in file.open()]
    assert any(line.get('teacher/accuracy/top1') == pytest.approx(accuracy(teacher), abs=1e-3) for line in logged)


def test_a_model_without_teachers_is_refused(tiny_config, tmp_path):
    done = run_tool('train.py', tiny_config, '--work-dir', tmp_path / 'w', '--cfg-options',
                    'val_cfg.type=mmkd_atsc.DistillValLoop', 'train_cfg.max_epochs=1')
    assert_one_line_error(done, 'ImageClassifier has none')
    assert_one_line_error(run_tool('train.py', tiny_config, '--cfg-options', 'val_cfg.type=mmkd_atsc.DistilValLoop',
                                   '--work-dir', tmp_path / 'v'), 'DistilValLoop')


def rate_by(monitor, rule='greater'):
    return ReduceOnPlateauLR(SGD([nn.Parameter(torch.zeros(1))], lr=0.1), monitor=monitor, rule=rule)


@pytest.mark.parametrize('hooks, schedulers, words', [
    ([EarlyStoppingHook('accuracy/top1')], [],
     "monitor='accuracy/top1' of EarlyStoppingHook does not say whose: it must begin with 'student/' or .* teacher"),
    ([], [rate_by('student/accuracy/top1', 'less')], "ReduceOnPlateauLR: with rule='less' an accuracy that rises"),
    ([], [rate_by('loss')], "monitor='loss' of ReduceOnPlateauLR does not say whose"),
    ([], dict(a=[rate_by('teacher/accuracy/top1')]), 'ReduceOnPlateauLR needs the teachers in every validation'),
    ([], [rate_by('student/accuracy/top5')],
     "monitor='student/accuracy/top5' of .*: the validation gives accuracy/top1"),
    ([EarlyStoppingHook('student/acuracy/top1', rule='greater')], [], "did you mean 'accuracy/top1'"),
    ([CheckpointHook(save_best='student/accuracy/top2')], [], "save_best='student/accuracy/top2': the val"),
    ([CheckpointHook(save_best='auto'), EarlyStoppingHook('student/accuracy/top1')],
     dict(a=[rate_by('student/accuracy/top1')], b=[]), None),
    ([], dict(type='MultiStepLR', milestones=[1]), None),  # not built: nothing is trained
])
def test_a_metric_that_decides_must_be_there(hooks, schedulers, words):
    """Else the first validation would end the run, or a hook never would: both are for the first minute."""
    model = nn.Module()
    model.teachers = nn.ModuleDict(dict(teacher=nn.Identity()))
    runner = SimpleNamespace(model=model, hooks=hooks, param_schedulers=schedulers)

    def check():
        loop = DistillValLoop(runner, DataLoader([]), Evaluator([]))
        loop._metrics = lambda: {'teacher/accuracy/top1': 1.0}
        loop.score_teachers()

    if words:
        with pytest.raises(ValueError, match=words):
            check()
    else:
        check()
