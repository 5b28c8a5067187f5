"""A loss or weight that is nan stops the run by name, before anything is saved."""
import math
import os
import sys

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper
from torch import nn

from mmkd_atsc.errors.checks import TrainingStopped
from mmkd_atsc.runtime.finite_loss import nonfinite_tensor
from tests.conftest import ROOT, assert_one_line_error, run_command, run_tool
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


@pytest.mark.parametrize('value, text', [(math.inf, '-?inf'), (math.nan, 'nan')])
def test_an_epoch_is_not_saved_when_its_last_step_went_wrong(tmp_path, value, text):
    data = batches(factor={9: value})
    with pytest.raises(TrainingStopped, match=f'^loss_scaled is {text} in iteration 10; no checkpoint had been saved'):
        toy_runner(tmp_path, data, interval=100).train()
    assert not list(tmp_path.glob('*.pth'))


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


@pytest.mark.parametrize('cfg, checkpoint, saved', [
    (None, {}, 'epoch_1.pth'), (BY_ITER, dict(by_epoch=False, interval=10), 'iter_10.pth')])
def test_statistics_from_which_no_run_could_be_resumed_are_not_saved(tmp_path, cfg, checkpoint, saved):
    """The variance of huge inputs is inf, the loss is not: normalised they are as any others."""
    runner = toy_runner(tmp_path, batches(20 if cfg else 10), cfg, hooks(**checkpoint), interval=100)
    runner.register_hook(Huge(at=13))
    with pytest.raises(TrainingStopped, match='^the buffer norm.running_var holds nan or inf after iteration 20, '
                                              f'though no loss did; the last checkpoint before it is .*/{saved}$'):
        runner.train()
    assert [path.name for path in tmp_path.glob('*.pth')] == [saved]
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


def test_training_ends_in_one_line(tiny_config, tmp_path):
    """A config that names none of the hooks has them, by tools/train.py."""
    done = run_tool('train.py', tiny_config, '--work-dir', tmp_path / 'w', '--cfg-options',
                    'optim_wrapper.optimizer.lr=1e30')
    assert_one_line_error(done, 'loss is nan in iteration ', 'no checkpoint had been saved')
    assert not list((tmp_path / 'w').glob('*.pth'))


TWO_PROCESSES = """
import os, sys
import torch
import torch.distributed as dist
from mmengine.runner import Runner
from tests.test_runtime.test_finite_loss import BY_ITER, hooks
from tests.test_runtime.toy_training import batches, toy_runner

folder = sys.argv[1]
Runner._log_env = lambda *args: None
rank = 1 - bool(os.fork())
os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank), WORLD_SIZE='2')
dist.init_process_group('gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
wrapper = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
data = batches(20, factor={6: float('nan')} if rank else {})
with open(f'{folder}/{rank}', 'w') as out:
    try:
        toy_runner(folder, data, BY_ITER, hooks(by_epoch=False, interval=5), interval=100, launcher='pytorch',
                   cfg=dict(model_wrapper_cfg=wrapper)).train()
    except Exception as error:
        print(type(error).__name__, error, file=out, flush=True)
os._exit(0) if rank else os.wait()
"""


def test_all_processes_stop_together(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(TWO_PROCESSES)
    done = run_command(sys.executable, script, tmp_path, PYTHONPATH=str(ROOT), MASTER_ADDR='127.0.0.1', timeout=100)
    first, second = ((tmp_path / rank).read_text() for rank in '01')
    assert first == second == ('TrainingStopped loss_scaled is nan in iteration 7 (process 1); the last checkpoint '
                               f'before it is {os.path.join(tmp_path, "iter_5.pth")}\n'), done.stderr[-2000:]
    assert_all_checkpoints_are_good(tmp_path)
