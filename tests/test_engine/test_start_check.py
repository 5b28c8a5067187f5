"""Data, student and teachers are checked against each other before the first step."""
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import MODELS

from mmkd_atsc.engine import StartCheckHook
from mmkd_atsc.engine.start_check import compares_logits
from mmkd_atsc.errors.checks import TrainingStopped
from mmkd_atsc.models.losses import AEKTLoss
from tests.conftest import tiny_classifier

METRICS = {'teacher0/accuracy/top1': 71.5, 'teacher1/accuracy/top1': 3.0}


@pytest.fixture
def model(teacher_checkpoint):
    return MODELS.build(dict(
        type='mmkd_atsc.MultiTeacherDistill', architecture=tiny_classifier(4), teacher_ckpt=[teacher_checkpoint] * 2,
        teacher=[tiny_classifier(8), tiny_classifier(8)],
        distiller=dict(type='mmkd_atsc.AEKTDistiller', num_classes=10, teacher='mean_prob'),
        data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3)))


def start(model, classes=10, metrics=METRICS, iteration=0, **options):
    """``metrics`` are what the validation gives of the teachers; {}: it scores none; None: there is none."""
    loop = metrics and SimpleNamespace(score_teachers=lambda: (torch.rand(3), metrics)[1])
    dataset = SimpleNamespace(metainfo=dict(classes=tuple(map(str, range(classes)))))
    runner = SimpleNamespace(model=model, train_dataloader=SimpleNamespace(dataset=dataset), val_loop=loop,
                             iter=iteration, logger=logging.getLogger('start'),
                             message_hub=SimpleNamespace(update_info=lambda *_: None))
    StartCheckHook(**options).before_train(runner)


def test_data_for_other_networks_are_refused(model):
    with pytest.raises(ValueError, match='classes differ: the student has 10, the training data has 100, teacher0 has'):
        start(model, classes=100)
    with pytest.raises(ValueError, match='the student has 10, the training data has 5$'):
        start(MODELS.build(tiny_classifier()), classes=5)


def test_a_distiller_compares_logits_if_a_loss_of_it_does():
    class Ours(AEKTLoss):
        pass

    assert compares_logits(SimpleNamespace(distill_losses=dict(loss=Ours())))
    assert not compares_logits(SimpleNamespace(distill_losses=dict(loss=torch.nn.MSELoss()))) | compares_logits(None)


def test_teachers_are_scored_once_and_training_draws_the_same_numbers(model, caplog):
    caplog.set_level(logging.INFO)
    torch.manual_seed(0)
    start(model)
    after = torch.rand(1)
    torch.manual_seed(0)
    assert after == torch.rand(1)
    assert 'before training: teacher0/accuracy/top1 71.50, teacher1/accuracy/top1 3.00' in caplog.text
    with pytest.raises(TrainingStopped, match=r'teacher1/accuracy/top1 is 3.00 before training, below '
                                              r'min_teacher_accuracy=5: .*teacher.pth does not fit these data'):
        start(model, min_teacher_accuracy=5)
    with pytest.raises(ValueError, match="metric='accuracy/top5': the validation gives teacher0/accuracy/top1"):
        start(model, min_teacher_accuracy=5, metric='accuracy/top5')
    start(model, min_teacher_accuracy=5, score_teachers=False)
    start(model, min_teacher_accuracy=5, iteration=10)  # resumed
    for teacher in model.teachers.values():
        teacher.loaded = None  # random ones that were asked for
    start(model, min_teacher_accuracy=5)


def test_a_bound_that_cannot_be_checked_is_said(model, caplog):
    with pytest.raises(ValueError, match='min_teacher_accuracy=5 needs a validation that scores teachers, val_cfg='):
        start(model, metrics={}, min_teacher_accuracy=5)
    start(model, metrics={}, min_teacher_accuracy=5, score_teachers=False)
    assert not caplog.text
    start(model, metrics=None, min_teacher_accuracy=5)
    assert 'min_teacher_accuracy=5 needs a validation' in caplog.text
