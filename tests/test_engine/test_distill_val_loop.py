"""One pass scores each network as it would score alone."""
import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook
from torch import nn
from torch.utils.data import DataLoader

from mmkd_atsc.datasets import Digits
from mmkd_atsc.engine.distill_val_loop import DistillValLoop
from mmkd_atsc.models.teacher import Teacher
from tests.conftest import refusal, run_here, scalars, tiny_classifier
from tests.test_tools.test_atsc_training import ATSC


def accuracy(network):
    """Counted by hand on the test images of the tiny config."""
    digits = Digits(split='test', train_images=1600, pipeline=[])
    images = torch.stack([torch.from_numpy(digits[i]['img']).permute(2, 0, 1) for i in range(len(digits))])
    labels = torch.tensor([digits[i]['gt_label'] for i in range(len(digits))])
    with torch.no_grad():
        return 100 * (network((images.float() - 127.5) / 127.5).argmax(1) == labels).float().mean().item()


def test_metrics_are_those_of_the_named_network(teacher_checkpoint, tmp_path, in_process, capsys):
    config, work_dir = tmp_path / 'atsc.py', tmp_path / 'w'
    config.write_text(f'TEACHER = {tiny_classifier(8)!r}\nCHECKPOINT = {teacher_checkpoint!r}\n{ATSC}')
    run_here('train.py', config, '--work-dir', work_dir, '--cfg-options', 'train_cfg.max_epochs=1')
    capsys.readouterr()
    run_here('test.py', config, work_dir / 'epoch_1.pth', '--work-dir', tmp_path / 't', '--out', tmp_path / 'm.json',
             '--cfg-options', 'test_cfg.teachers=True')
    assert capsys.readouterr().out.count('Epoch(test)') == 1  # one pass
    metrics = json.loads((tmp_path / 'm.json').read_text())
    assert set(metrics) == {'student/accuracy/top1', 'teacher/accuracy/top1'}
    expected = pytest.approx(accuracy(Teacher(tiny_classifier(8), teacher_checkpoint).eval()), abs=1e-3)
    assert metrics['teacher/accuracy/top1'] == expected
    # Frozen in its first epoch, the teacher is scored by validation as by test.
    assert any(line.get('teacher/accuracy/top1') == expected for line in scalars(work_dir))


def test_a_model_without_teachers_is_refused(tiny_config, tmp_path, capsys):
    assert 'DistillValLoop scores teachers, ImageClassifier has none' in refusal(
        capsys, 'train.py', tiny_config, '--work-dir', tmp_path / 'w', '--cfg-options',
        'val_cfg.type=mmkd_atsc.DistillValLoop')


@pytest.mark.parametrize('save_best, words', [
    ('accuracy/top1', "save_best='accuracy/top1' must begin with student/"),
    ('teacher/accuracy/top1', 'must begin with student/; .* teachers=True and every_n_epochs=1'),
    ('student/accuracy/top1', None), ('auto', None)])
def test_the_best_checkpoint_is_by_a_metric_that_says_whose_it_is(save_best, words):
    model = nn.Module()
    model.teachers = nn.ModuleDict(dict(teacher=nn.Identity()))
    runner = SimpleNamespace(model=model, hooks=[CheckpointHook(save_best=save_best)])
    with pytest.raises(ValueError, match=words) if words else nullcontext():
        DistillValLoop(runner, DataLoader([]), Evaluator([]))
