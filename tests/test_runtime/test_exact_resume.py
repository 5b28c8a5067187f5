"""A run resumed from an epoch's end equals the one that was never stopped, bit for bit."""
import math

import pytest
import torch

from mmkd_atsc.runtime.exact_resume import ENTRY
from tests.faults.trainings import Life, differences, write_config
from tests.test_runtime.toy_training import OURS, Toy, batches, checkpoint_of, scalar_lines, toy_runner

EVERY = ('--cfg-options', 'default_hooks.checkpoint.max_keep_ckpts=-1')


def train(config, work_dir, *arguments, processes=1):
    codes = Life(config, work_dir, *EVERY, *arguments, processes=processes).wait(100)
    assert not any(codes), work_dir.with_suffix('.log').read_text()[-3000:]


@pytest.mark.parametrize('method, loader, processes, starts, options', [
    ('atsc', 'plain', 1, ['epoch_1', 'epoch_2'], ['train_cfg.val_interval=2']),
    ('several', 'workers', 1, ['epoch_2'], ['train_dataloader.num_workers=1']),
    ('aekt', 'workers', 2, ['epoch_1'], []),
    ('atsc', 'batched', 2, ['epoch_2'], []),
])
def test_resumed_equals_unbroken(tmp_path, method, loader, processes, starts, options):
    config = write_config(tmp_path, method, loader)
    train(config, tmp_path / 'whole', *options, processes=processes)
    for start in starts:
        parts = tmp_path / start
        options = [option for option in options if 'num_workers' not in option]  # their number does not matter
        train(config, parts, *options, '--resume', tmp_path / 'whole' / f'{start}.pth', processes=processes)
        assert differences(tmp_path / 'whole', parts)[:5] == []
        assert 'not exactly' not in parts.with_suffix('.log').read_text()


class Random(Toy):
    """A forward that draws random numbers."""

    def forward(self, inputs, *args, **kwargs):
        return super().forward(inputs + torch.rand_like(inputs), *args, **kwargs)


LOOP = dict(type='mmkd_atsc.ResumableEpochLoop', max_epochs=2)
HOOKS = dict(OURS, exact_resume=dict(type='mmkd_atsc.ExactResumeHook'),
             checkpoint=dict(type='mmkd_atsc.AtomicCheckpointHook', interval=1, save_best='toy/acc', rule='greater'))


def runner(folder, loop=LOOP, hooks=HOOKS, **options):
    made = toy_runner(folder, batches(5), dict(loop), hooks, validate=True, randomness=dict(seed=0), **options)
    made.model.__class__ = Random
    return made


def log_of(folder):
    return ''.join(path.read_text() for path in folder.glob('*/*.log'))


@pytest.mark.usefixtures('in_process')
def test_a_validation_that_was_cut_short_is_repeated(tmp_path):
    """Else its score, its best checkpoint and its step of a schedule by plateaus would be lost."""
    plateau = dict(param_scheduler=dict(type='ReduceOnPlateauLR', monitor='toy/err', patience=0))
    runner(tmp_path / 'whole', **plateau).train()

    def killed(*args, **kwargs):
        raise EOFError

    parts = runner(tmp_path / 'parts', **plateau)
    parts.model.val_step = killed
    with pytest.raises(EOFError):
        parts.train()
    runner(tmp_path / 'parts', resume=True, **plateau).train()
    assert (tmp_path / 'parts' / 'best_toy_acc_epoch_1.pth').is_file()
    assert differences(tmp_path / 'whole', tmp_path / 'parts') == []


@pytest.mark.usefixtures('in_process')
def test_training_does_not_depend_on_validation(tmp_path):
    lines = []
    for interval in (1, 5):
        runner(tmp_path / str(interval), loop=dict(LOOP, val_interval=interval), interval=1).train()
        lines.append([line for line in scalar_lines(tmp_path / str(interval)) if dict(line).get('loss') is not None])
    assert lines[0] == lines[1] and len(lines[0]) == 10


@pytest.mark.usefixtures('in_process')
def test_a_checkpoint_from_the_middle_of_an_epoch_begins_it_anew(tmp_path):
    hooks = dict(HOOKS, checkpoint=dict(HOOKS['checkpoint'], by_epoch=False, interval=3))
    options = dict(hooks=hooks, wrapper=dict(accumulative_counts=2))
    runner(tmp_path, **options).train()
    assert ENTRY not in checkpoint_of(tmp_path / 'iter_6.pth')
    resumed = runner(tmp_path / 'parts', resume=True, load_from=str(tmp_path / 'iter_6.pth'), **options)
    resumed.train()
    assert (resumed.epoch, resumed.iter) == (2, 10)
    assert 'resumed, but not exactly: epoch 2 begins anew' in log_of(tmp_path / 'parts')


@pytest.mark.usefixtures('in_process')
@pytest.mark.parametrize('processes, options, why', [
    (2, {}, '2 process(es) wrote the checkpoint, 1 read it'),
    (1, dict(loop=dict(type='EpochBasedTrainLoop', max_epochs=2)), 'EpochBasedTrainLoop does not restore random'),
    (1, dict(custom_hooks=[dict(type='EarlyStoppingHook', monitor='toy/acc', rule='greater', patience=math.inf)]),
     'EarlyStoppingHook begins to count anew')])
def test_what_is_not_exact_is_said(tmp_path, processes, options, why):
    runner(tmp_path).train()
    checkpoint = checkpoint_of(tmp_path / 'epoch_1.pth')
    checkpoint[ENTRY]['processes'] *= processes
    torch.save(checkpoint, tmp_path / 'epoch_1.pth')
    resumed = runner(tmp_path, resume=True, load_from=str(tmp_path / 'epoch_1.pth'), **options)
    resumed.train()
    assert (resumed.epoch, resumed.iter) == (2, 10) and f'resumed, but not exactly: {why}' in log_of(tmp_path)
