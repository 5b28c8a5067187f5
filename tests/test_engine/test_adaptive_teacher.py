"""When a teacher adapts by default, and the warning that it has become worse."""
import logging
from types import SimpleNamespace

import pytest
from torch import nn

from mmkd_atsc.engine import AdaptiveTeacherHook
from mmkd_atsc.engine.start_check import BEFORE_TRAINING


def toy_runner(epochs=8, start=None):
    model = nn.Module()
    model.adaptive, model.teachers = True, dict(big=None, small=None)
    hub = SimpleNamespace(runtime_info={BEFORE_TRAINING: start or {}})
    return SimpleNamespace(model=model, epoch=4, max_epochs=epochs, max_iters=50 * epochs, message_hub=hub,
                           train_loop=None, logger=logging.getLogger('toy'))


@pytest.mark.parametrize('options, first', [(dict(), 3), (dict(by_epoch=False), 175), (dict(start=1), 1)])
def test_a_teacher_adapts_from_half_of_the_training_unless_told_otherwise(options, first):
    hook = AdaptiveTeacherHook(**options)
    hook.before_train(toy_runner(epochs=7))
    assert [hook.is_active(done) for done in (first - 1, first, 400)] == [False, True, True]


def test_a_teacher_that_loses_more_than_a_point_is_named_once(caplog):
    hook, runner = AdaptiveTeacherHook(), toy_runner(start={'big/accuracy/top1': 80.0, 'small/accuracy/top1': 70.0})
    for value in (79.5, 78.9, 60.0):
        hook.after_val_epoch(runner, {'big/accuracy/top1': value, 'small/accuracy/top1': 71.0})
    assert [record.message.split(':')[0] for record in caplog.records] == [
        'big/accuracy/top1 fell from 80.00 before training to 78.90']
    hook.after_val_epoch(runner, {'student/accuracy/top1': 1.0})  # the teachers' turn comes every few epochs
    hook.after_val_epoch(toy_runner(), {'small/accuracy/top1': 1.0})  # nothing is known of its start
    assert len(caplog.records) == 1
