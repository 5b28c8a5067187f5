"""Data, student and teachers are checked against each other before the first step."""
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import MODELS

from mmkd_atsc.datasets import Digits
from mmkd_atsc.engine import StartCheckHook
from mmkd_atsc.engine.start_check import check_same_teachers, compares_logits
from mmkd_atsc.errors.checks import TrainingStopped
from mmkd_atsc.models.losses import AEKTLoss
from tests.conftest import tiny_classifier


@pytest.fixture
def model(teacher_checkpoint):
    own_eyes = dict(data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', mean=[1.] * 3, std=[2.] * 3))
    return MODELS.build(dict(
        type='mmkd_atsc.MultiTeacherDistill', architecture=tiny_classifier(4), teacher_ckpt=[teacher_checkpoint] * 2,
        teacher=[tiny_classifier(8), tiny_classifier(8, **own_eyes)],
        distiller=dict(type='mmkd_atsc.AEKTDistiller', num_classes=10, teacher='mean_prob'),
        data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3)))


class Data(list):
    """As many samples as labels."""

    def __init__(self, labels, classes):
        super().__init__(labels)
        self.metainfo = dict(classes=tuple(map(str, range(classes))))

    def get_data_info(self, index):
        return dict(gt_label=self[index])


def start(model, dataset, metrics=None, iteration=0, **options):
    loop = SimpleNamespace(score_teachers=lambda: (torch.rand(3), metrics)[1]) if metrics else None
    runner = SimpleNamespace(model=model, train_dataloader=SimpleNamespace(dataset=dataset), val_loop=loop,
                             iter=iteration, logger=logging.getLogger('start'))
    StartCheckHook(**options).before_train(runner)


def test_what_fits_passes_and_the_normalisation_is_logged(model, caplog):
    caplog.set_level(logging.INFO)
    start(model, Digits(pipeline=[]))
    start(model, [])  # data that say nothing of themselves
    student = 'student minus (127.5, 127.5, 127.5), by (127.5, 127.5, 127.5)'
    assert f'images: {student}; teacher0 the same; teacher1 minus (1, 1, 1), by (2, 2, 2)' in caplog.text


@pytest.mark.parametrize('labels, classes, words', [
    ([0, 10], 10, 'labels from 0 to 10, the networks answer 0 to 9'), ([-1, 3], 10, 'labels from -1 to 3'),
    ([0, 1], 100, 'the numbers of classes differ: the student has 10, the training data has 100, teacher0 has 10'),
    ([0, 1], 5, 'the training data has 5')])
def test_data_for_other_networks_are_refused(model, labels, classes, words):
    with pytest.raises(ValueError, match=words):
        start(model, Data(labels, classes))


def test_a_distiller_compares_logits_if_a_loss_of_it_does():
    class Ours(AEKTLoss):
        pass

    assert compares_logits(SimpleNamespace(distill_losses=dict(loss=Ours())))
    assert not compares_logits(SimpleNamespace(distill_losses=dict(loss=torch.nn.MSELoss()))) | compares_logits(None)


def test_a_plain_network_is_checked_too():
    with pytest.raises(ValueError, match='labels from 0 to 10, the networks answer 0 to 9'):
        start(MODELS.build(tiny_classifier()), Data([0, 10], 10))


def test_teachers_are_scored_once_and_training_draws_the_same_numbers(model, caplog):
    caplog.set_level(logging.INFO)
    metrics = {'teacher0/accuracy/top1': 71.5, 'teacher1/accuracy/top1': 3.0}
    torch.manual_seed(0)
    start(model, Data([0], 10), metrics)
    after = torch.rand(1)
    torch.manual_seed(0)
    assert after == torch.rand(1)
    assert 'before training: teacher0/accuracy/top1 71.50, teacher1/accuracy/top1 3.00' in caplog.text
    with pytest.raises(TrainingStopped, match=r'teacher1/accuracy/top1 is 3.00 before training, below '
                                              r'min_teacher_accuracy=5: .*teacher.pth does not fit these data'):
        start(model, Data([0], 10), metrics, min_teacher_accuracy=5)
    with pytest.raises(ValueError, match="metric='accuracy/top5': the validation gives teacher0/accuracy/top1"):
        start(model, Data([0], 10), metrics, min_teacher_accuracy=5, metric='accuracy/top5')
    start(model, Data([0], 10), metrics, min_teacher_accuracy=5, score_teachers=False)
    start(model, Data([0], 10), metrics, min_teacher_accuracy=5, iteration=10)  # resumed
    for teacher in model.teachers.values():
        teacher.loaded = None  # random ones that were asked for
    start(model, Data([0], 10), metrics, min_teacher_accuracy=5)


def test_processes_with_other_teachers_are_refused(model, monkeypatch):
    monkeypatch.setattr('mmkd_atsc.engine.start_check.all_gather_object',
                        lambda own: [own, dict(own, teacher1=b'other')])
    with pytest.raises(ValueError, match='teacher1: process 1 has read other weights than this one'):
        check_same_teachers(model.teachers)


def test_a_bound_that_cannot_be_looked_at_is_no_bound(model, caplog):
    def begin(model, val_loop, **options):
        runner = SimpleNamespace(model=model, train_dataloader=SimpleNamespace(dataset=[]), val_loop=val_loop, iter=0,
                                 logger=logging.getLogger('start'))
        StartCheckHook(min_teacher_accuracy=5, **options).before_train(runner)

    with pytest.raises(ValueError, match='min_teacher_accuracy=5 needs a validation that scores teachers, val_cfg='):
        begin(model, SimpleNamespace())
    begin(model, SimpleNamespace(), score_teachers=False)
    assert not caplog.text
    begin(model, None)
    assert 'there is no validation data' in caplog.text
    theirs = torch.nn.Module()
    theirs.teacher = torch.nn.Identity()
    begin(theirs, SimpleNamespace())
    assert 'min_teacher_accuracy=5 is not looked at: Module' in caplog.text
