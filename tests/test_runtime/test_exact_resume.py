"""A resumed training ends as the one that was never stopped, bit for bit."""
import math

import pytest
import torch

from mmkd_atsc.runtime.exact_resume import ENTRY
from tests.faults.trainings import Life, differences, write_config
from tests.test_runtime.toy_training import OURS, Toy, batches, checkpoint_of, scalar_lines, toy_runner

EVERY = ('--cfg-options', 'default_hooks.checkpoint.max_keep_ckpts=-1')
BY_EPOCH = ('default_hooks.checkpoint.by_epoch=True', 'default_hooks.checkpoint.interval=1')


def train(config, work_dir, *arguments, processes=1):
    codes = Life(config, work_dir, *EVERY, *arguments, processes=processes).wait(100)
    assert not any(codes), work_dir.with_suffix('.log').read_text()[-3000:]


@pytest.mark.parametrize('method, loader, processes, starts, options', [
    # In iter_10 an epoch's batches are through, and its end is not.
    ('atsc', 'plain', 1, ['iter_5', 'iter_10'], ['default_hooks.checkpoint.interval=5', 'train_cfg.val_interval=2']),
    ('aekt', 'batched', 1, ['iter_3'], []),
    ('several', 'workers', 1, ['iter_12'], ['train_dataloader.num_workers=1']),
    ('aekt', 'workers', 1, ['epoch_1'], BY_EPOCH),
    ('atsc', 'batched', 2, ['iter_6'], []),
    ('several', 'plain', 2, ['epoch_2'], BY_EPOCH),
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


def test_it_is_the_hook_that_makes_it_so(tmp_path):
    """The comparison sees what is lost without it; and the log says that something is."""
    config = write_config(tmp_path, 'atsc')
    train(config, tmp_path / 'whole', 'default_hooks.exact_resume=None')
    train(config, tmp_path / 'parts', '--resume', tmp_path / 'whole' / 'iter_6.pth')
    assert any('backbone' in path for path in differences(tmp_path / 'whole', tmp_path / 'parts'))
    log = (tmp_path / 'parts.log').read_text()
    assert 'resumed, but not exactly: the checkpoint has no random numbers' in log
    assert 'Epoch(train) [1][10/10]' in log  # it goes on with the seventh batch all the same


class Random(Toy):
    """A forward that draws random numbers."""

    def forward(self, inputs, *args, **kwargs):
        return super().forward(inputs + torch.rand_like(inputs), *args, **kwargs)


LOOP = dict(type='mmkd_atsc.ResumableEpochLoop', max_epochs=2)
HOOKS = dict(OURS, exact_resume=dict(type='mmkd_atsc.ExactResumeHook'),
             checkpoint=dict(type='mmkd_atsc.AtomicCheckpointHook', interval=1, save_best='toy/acc', rule='greater'))


def runner(folder, count=5, loop=LOOP, hooks=HOOKS, data=None, **options):
    made = toy_runner(folder, data or batches(count), dict(loop), hooks, validate=True, randomness=dict(seed=0),
                      **options)
    made.model.__class__ = Random
    return made


@pytest.mark.usefixtures('in_process')
def test_a_validation_that_was_cut_short_is_done_again(tmp_path):
    """Else its score, its best checkpoint and its step of a schedule by plateaus would be lost."""
    plateau = dict(param_scheduler=dict(type='ReduceOnPlateauLR', monitor='toy/err', patience=0))
    runner(tmp_path / 'whole', **plateau).train()

    def killed(*args, **kwargs):
        raise EOFError

    parts = runner(tmp_path / 'parts', **plateau)
    parts.model.val_step = killed
    with pytest.raises(EOFError):
        parts.train()
    assert checkpoint_of(tmp_path / 'parts' / 'epoch_1.pth')[ENTRY]['validated'] is False
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
def test_the_middle_of_an_epoch_needs_the_same_batches(tmp_path):
    hooks = dict(HOOKS, checkpoint=dict(HOOKS['checkpoint'], by_epoch=False, interval=3))
    runner(tmp_path, hooks=hooks).train()
    for start, fits in ('iter_3', False), ('iter_10', True):
        resumed = runner(tmp_path, count=4, hooks=hooks, resume=True, load_from=str(tmp_path / f'{start}.pth'))
        if fits:
            resumed.train()
        else:
            with pytest.raises(ValueError, match=r"from an epoch's middle \(3 of 5 batches, 1 process.* 4 batches"):
                resumed.train()


@pytest.mark.parametrize('count', [5, 4])
@pytest.mark.usefixtures('in_process')
def test_an_epoch_that_is_through_is_so_for_another_number_of_processes(tmp_path, count):
    # Without save_best, which would write it again after the epoch's end.
    hooks = dict(HOOKS, checkpoint=dict(type='mmkd_atsc.AtomicCheckpointHook', by_epoch=False, interval=5))
    runner(tmp_path, hooks=hooks).train()
    checkpoint = checkpoint_of(tmp_path / 'iter_5.pth')
    checkpoint[ENTRY]['processes'] *= 2  # as if two had written it
    torch.save(checkpoint, tmp_path / 'iter_5.pth')
    resumed = runner(tmp_path, count=count, hooks=hooks, resume=True, load_from=str(tmp_path / 'iter_5.pth'))
    resumed.train()
    assert (resumed.epoch, resumed.iter) == (2, 5 + count)
    assert '2 process(es) wrote the checkpoint, 1 read it' in ''.join(
        path.read_text() for path in tmp_path.glob('*/*.log'))


@pytest.mark.usefixtures('in_process')
def test_a_step_that_is_to_be_skipped_still_is(tmp_path):
    """Its nan comes before the checkpoint, the rest of its batches after."""
    hooks = dict(HOOKS, checkpoint=dict(HOOKS['checkpoint'], by_epoch=False, interval=1),
                 finite_loss=dict(type='mmkd_atsc.FiniteLossHook', max_skipped=2))
    options = dict(data=batches(5, factor={2: math.nan}), hooks=hooks, wrapper=dict(accumulative_counts=2))
    runner(tmp_path / 'whole', **options).train()
    for start in 3, 4:
        path = tmp_path / 'whole' / f'iter_{start}.pth'
        assert checkpoint_of(path)[ENTRY]['processes'][0]['spoiled'] == [start == 3]
        runner(tmp_path / str(start), resume=True, load_from=str(path), **options).train()
        assert differences(tmp_path / 'whole', tmp_path / str(start)) == []


@pytest.mark.parametrize('option, value, error', [
    ('max_epochs', 1.5, TypeError), ('val_interval', 0, ValueError), ('val_begin', -1, ValueError)])
def test_the_loop_checks_its_numbers(tmp_path, option, value, error, in_process):
    with pytest.raises(error, match=f'{option}={value} must be an integer at least'):
        runner(tmp_path, loop=dict(LOOP, **{option: value})).train()


@pytest.mark.usefixtures('in_process')
def test_what_cannot_be_exact_says_so(tmp_path, caplog):
    runner(tmp_path).train()
    stop = dict(type='EarlyStoppingHook', monitor='toy/acc', rule='greater', patience=math.inf)
    runner(tmp_path, loop=dict(LOOP, max_epochs=3), resume=True, custom_hooks=[stop]).train()
    log = ''.join(path.read_text() for path in tmp_path.glob('*/*.log'))
    assert 'resumed, but not exactly: EarlyStoppingHook counts anew' in log
