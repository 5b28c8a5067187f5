"""A loss or weight that is nan stops the run by name, before anything is saved."""
import itertools
import math
import os
import re

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper
from mmpretrain.models import ImageClassifier
from torch import nn

from mmkd_atsc.errors.checks import TrainingStopped
from mmkd_atsc.runtime.finite_loss import nonfinite_tensor
from tests.faults.trainings import Life, write_config
from tests.test_runtime.toy_training import OURS, batches, checkpoint_of, toy_runner

pytestmark = pytest.mark.usefixtures('in_process')
BY_ITER = dict(by_epoch=False, max_iters=20)


def hooks(**checkpoint):
    return dict(OURS, checkpoint=dict(OURS['checkpoint'], **checkpoint))


def assert_all_checkpoints_are_good(folder):
    for path in folder.glob('*.pth'):
        assert all(torch.isfinite(value).all() for value in checkpoint_of(path)['state_dict'].values()), path


def test_the_message_names_the_loss_the_step_and_the_last_good_checkpoint(tmp_path):
    data = batches(30, factor={13: math.nan})
    with pytest.raises(TrainingStopped, match=r'^loss_scaled is nan in iteration 14; '
                                              rf'the last checkpoint before it is {tmp_path}/iter_10.pth$'):
        toy_runner(tmp_path, data, BY_ITER, hooks(by_epoch=False, interval=5), interval=100).train()
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['iter_10.pth', 'iter_5.pth']
    assert_all_checkpoints_are_good(tmp_path)


def test_the_message_says_what_the_methods_parts_would_change(tmp_path, monkeypatch):
    monkeypatch.setattr(nn.Linear, 'nonfinite_remedy', 'Linear: halve it', raising=False)
    with pytest.raises(TrainingStopped, match='no checkpoint had been saved; Linear: halve it$'):
        toy_runner(tmp_path, batches(factor={3: math.nan}), interval=100).train()


@pytest.mark.parametrize('cfg, checkpoint, step', [
    (None, {}, 10), (BY_ITER, dict(by_epoch=False, interval=7), 7),
    (dict(BY_ITER, val_interval=7), dict(by_epoch=False, interval=100, save_best='toy/acc', rule='greater'), 7)])
def test_weights_that_a_finite_loss_ruined_are_not_saved(tmp_path, cfg, checkpoint, step):
    """Whatever saves: an epoch's checkpoint, one by iterations, the best one."""
    runner = toy_runner(tmp_path, batches(20 if cfg else 10, root={step - 1: 0}), cfg, hooks(**checkpoint),
                        interval=100, validate=True)
    with pytest.raises(TrainingStopped, match=f'the weight layer.weight holds nan or inf after iteration {step}, '
                                              'though no loss did; no checkpoint had been saved'):
        runner.train()
    assert not list(tmp_path.glob('*.pth'))


def test_statistics_from_which_no_run_could_be_resumed_are_not_saved(tmp_path):
    """The variance of huge inputs is inf, the loss is not: normalised they are as any others."""
    runner = toy_runner(tmp_path, batches(), interval=100)
    runner.register_hook(Huge(at=13))
    with pytest.raises(TrainingStopped, match='^the buffer norm.running_var holds nan or inf after iteration 20, '
                                              'though no loss did; the last checkpoint before it is .*/epoch_1.pth$'):
        runner.train()
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1.pth']
    assert_all_checkpoints_are_good(tmp_path)


class Huge(Hook):
    """Makes a batch's inputs huge in one iteration."""

    def __init__(self, at):
        self.at = at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.at:
            data_batch['inputs'] = data_batch['inputs'] * 1e25


def test_all_that_is_saved_is_looked_at_and_nothing_else():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.BatchNorm1d(2).eval().requires_grad_(False))
    model.register_buffer('mask', torch.tensor([0, -math.inf]), persistent=False)
    model.register_buffer('empty', torch.empty(0))
    model.register_buffer('large', torch.tensor([torch.finfo(torch.float64).max], dtype=torch.float64))
    model.register_buffer('small', torch.tensor([torch.finfo(torch.float16).max], dtype=torch.float16))
    assert nonfinite_tensor(model) is None
    model[2].running_mean[1] = math.nan  # a frozen teacher's, say
    assert nonfinite_tensor(model) == 'buffer 2.running_mean'
    model[0].bias.data[0] = -math.inf
    assert nonfinite_tensor(model) == 'weight 0.bias'


def test_steps_that_the_gradient_scaler_skips_are_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr('mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available', lambda: True)
    monkeypatch.setattr('mmengine.optim.optimizer.amp_optimizer_wrapper.GradScaler',
                        lambda **kwargs: torch.amp.GradScaler('cpu', **kwargs))
    runner = toy_runner(tmp_path, batches(root={3: 0}), wrapper=dict(type=AmpOptimWrapper, dtype='bfloat16'))
    scale = []
    runner._hooks.append(type('Scale', (), dict(
        after_train_epoch=lambda self, runner: scale.append(runner.optim_wrapper.loss_scaler.get_scale())))())
    runner.train()
    assert scale == [2.0 ** 15, 2.0 ** 14]  # halved once an epoch: it did skip
    assert (tmp_path / 'epoch_2.pth').is_file()
    assert_all_checkpoints_are_good(tmp_path)


def spoil_the_seventh_loss_of_the_second_process():
    losses, calls = ImageClassifier.loss, itertools.count(1)
    ImageClassifier.loss = lambda self, *args: {
        name: value * math.nan if os.environ['RANK'] == '1' and next(calls) == 7 else value
        for name, value in losses(self, *args).items()}


def test_all_processes_stop_together(tmp_path):
    life = Life(write_config(tmp_path, 'aekt'), tmp_path / 'w', processes=2,
                prepare=spoil_the_seventh_loss_of_the_second_process)
    assert life.wait(100) == [2, 2], life.log.read_text()[-2000:]
    line = rf'error.*: student.loss is nan in iteration 7 \(process 1\); .* before it is {tmp_path}/w/epoch_1.pth'
    log = life.log.read_text()
    assert len(re.findall(line, log)) == log.count('error') == 2 and 'Traceback' not in log, log
    assert_all_checkpoints_are_good(tmp_path / 'w')
