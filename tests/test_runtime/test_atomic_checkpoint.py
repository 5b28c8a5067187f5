"""Whenever a run is killed and whatever the disk does, there is a checkpoint that loads."""
import builtins
import errno
import io
import os
import resource
from pathlib import Path

import pytest
import torch

from mmkd_atsc.checkpoints.atomic_file import UNFINISHED, AtomicBackend, write_whole
from mmkd_atsc.errors.checks import TrainingStopped
from mmkd_atsc.runtime import AtomicCheckpointHook
from tests.test_runtime.toy_training import OURS, batches, checkpoint_of, toy_runner

pytestmark = pytest.mark.usefixtures('in_process')


class Killed(BaseException):
    """No code catches it, as none catches a kill."""


@pytest.fixture
def saving(tmp_path):
    """A function that goes through epochs as the loop does, without training: it saves, validates, saves the best."""
    hooks = dict(OURS, checkpoint=None)
    runner = toy_runner(tmp_path, batches(), dict(by_epoch=True, max_epochs=10 ** 6), hooks)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.call_hook('before_run')

    def save(epochs):
        hook = AtomicCheckpointHook(interval=1, max_keep_ckpts=1, save_best='acc', rule='greater')
        for key in 'best_ckpt', 'best_score', 'keep_ckpt_ids', 'last_ckpt':
            runner.message_hub.pop_info(key)
        note = tmp_path / 'last_checkpoint'
        if note.is_file():  # a restart resumes
            runner.message_hub.load_state_dict(checkpoint_of(note.read_text())['message_hub'])
        hook.before_train(runner)
        for epoch in epochs:
            runner.train_loop._epoch = epoch
            runner.model.layer.bias.data.fill_(epoch + 1)
            hook.after_train_epoch(runner)
            runner.train_loop._epoch = epoch + 1
            hook.after_val_epoch(runner, dict(acc=float(epoch // 2)))  # every second one is the best

    return save


def last_epoch(folder):
    """The epoch of the checkpoint that ``last_checkpoint`` names, which is whole; of the best one likewise."""
    content = checkpoint_of((folder / 'last_checkpoint').read_text())
    assert content['meta']['epoch'] == content['state_dict']['layer.bias'].item()
    best = content['message_hub']['runtime_info'].get('best_ckpt')
    if best:
        assert checkpoint_of(best)['meta']['epoch'] == int(Path(best).stem.split('_')[-1])
    return content['meta']['epoch']


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file() and path.suffix != '.py')


class Dying:
    """The process dies at its n-th call that changes the disk; a file that was to be written is there in part."""

    def __init__(self, monkeypatch, call):
        self.calls_left = call
        for name in 'replace', 'remove', 'fsync', 'unlink':
            monkeypatch.setattr(os, name, self.counting(getattr(os, name)))
        real = builtins.open
        writing = self.counting(real, lambda path, *args: Path(path).write_bytes(b'half'))
        for module in builtins, io:
            monkeypatch.setattr(module, 'open', lambda path, mode='r', *args, **kwargs:
                                (writing if 'w' in mode else real)(path, mode, *args, **kwargs))

    def counting(self, function, last_act=lambda *args: None):
        def call(*args, **kwargs):
            self.calls_left -= 1
            if self.calls_left == 0:
                last_act(*args)
            if self.calls_left <= 0:
                raise Killed
            return function(*args, **kwargs)
        return call


def dies(save, monkeypatch, call):
    """Whether a run of two epochs, saved upon two others, has so many calls that it dies."""
    save(range(2))
    with monkeypatch.context() as patch:
        Dying(patch, call)
        try:
            save(range(2, 4))
        except Killed:
            return True
    return False


def test_dying_at_any_call_leaves_a_checkpoint_and_the_next_start_cleans_up(saving, tmp_path, monkeypatch):
    call, reached = 1, set()
    while dies(saving, monkeypatch, call):
        reached.add(last_epoch(tmp_path))
        saving(range(last_epoch(tmp_path), 6))
        assert last_epoch(tmp_path) == 6
        left = names(tmp_path)
        assert not any(UNFINISHED in name for name in left), (call, left)
        assert [name for name in left if name.startswith('epoch_')] == ['epoch_6.pth'], call
        for path in [*tmp_path.glob('*.pth'), tmp_path / 'last_checkpoint']:
            path.unlink()
        call += 1
    assert reached == {2, 3, 4} and call > 25  # four calls a file


@pytest.mark.parametrize('call, why', [('write', 'File too large'), ('fsync', 'No space left on device'),
                                       ('replace', 'No space left on device')])
def test_a_full_disk_ends_the_run_in_one_line_and_the_old_checkpoint_stays(saving, tmp_path, monkeypatch, call, why):
    saving(range(2))
    before, limits = names(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == 'write':  # the system's own refusal, in the middle of the file
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    else:
        monkeypatch.setattr(os, call, full)
    try:
        with pytest.raises(TrainingStopped) as stop:
            saving(range(2, 3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(stop.value) == (f'{tmp_path}/epoch_3.pth: could not be written ({why}); what was saved before is as it '
                               'was')
    assert names(tmp_path) == before and last_epoch(tmp_path) == 2


def test_the_bytes_are_on_the_disk_before_the_name_points_to_them(tmp_path, monkeypatch):
    calls = []
    for name in 'fsync', 'replace':
        monkeypatch.setattr(os, name, lambda *args, call=getattr(os, name): (calls.append(call.__name__), call(*args)))
    write_whole(tmp_path / 'a', b'content')
    assert calls == ['fsync', 'replace', 'fsync']  # the file, the name, the folder that holds the name


@pytest.mark.parametrize('options, kept', [
    (dict(max_keep_ckpts=2), ['epoch_3.pth', 'epoch_4.pth', 'last_checkpoint']),
    (dict(filename_tmpl='e{}.pth', save_begin=3), ['e3.pth', 'e4.pth', 'last_checkpoint']),
    (dict(by_epoch=False, interval=15, max_keep_ckpts=1), ['iter_40.pth', 'last_checkpoint']),
    (dict(interval=-1, save_last=False, save_best='toy/acc', rule='greater'), ['best_toy_acc_epoch_1.pth']),
    (dict(save_best=['toy/acc', 'toy/err'], rule=['greater', 'less'], max_keep_ckpts=1),
     ['best_toy_acc_epoch_1.pth', 'best_toy_err_epoch_1.pth', 'epoch_4.pth', 'last_checkpoint']),
    (dict(interval=4, out_dir='OUT', save_optimizer=False), ['last_checkpoint']),
])
def test_it_keeps_the_files_that_mmengines_hook_keeps(tmp_path, options, kept):
    for name, hook in dict(ours=OURS['checkpoint']['type'], theirs='CheckpointHook').items():
        given = dict(options, out_dir=str(tmp_path / f'{name}_out')) if 'out_dir' in options else options
        checkpoint = {**dict(type=hook, interval=1), **given}
        toy_runner(tmp_path / name, batches(), dict(by_epoch=True, max_epochs=4), dict(OURS, checkpoint=checkpoint),
                   validate=True).train()
    assert names(tmp_path / 'ours') == names(tmp_path / 'theirs') == kept
    if 'out_dir' in options:
        saved, = (tmp_path / 'ours_out' / 'ours').glob('*.pth')
        assert saved.name == 'epoch_4.pth' and 'optimizer' not in checkpoint_of(saved)
        assert (tmp_path / 'ours' / 'last_checkpoint').read_text() == str(saved)


def test_what_is_not_on_this_machine_goes_mmengines_way(tmp_path):
    checkpoint = dict(OURS['checkpoint'], file_client_args=dict(backend='disk'))
    runner = toy_runner(tmp_path, batches(), hooks=dict(OURS, checkpoint=checkpoint))
    runner.train()
    hook, = (hook for hook in runner.hooks if isinstance(hook, AtomicCheckpointHook))
    assert not hook.is_atomic and hook.backend_args is None
    assert torch.equal(checkpoint_of(tmp_path / 'epoch_2.pth')['state_dict']['layer.weight'], runner.model.layer.weight)


def test_what_lies_in_another_folder_is_not_removed(tmp_path):
    """Neither the best of the run that this one began from, nor whatever a checkpoint calls its best."""
    thesis = tmp_path / 'thesis.txt'
    thesis.write_text('mine')
    backend = AtomicBackend(tmp_path / 'run')
    write_whole(tmp_path / 'run' / 'best_1.pth', b'old')
    for path in thesis, tmp_path / 'run' / '..' / 'thesis.txt', tmp_path / 'run' / 'best_1.pth':
        backend.remove(path)
    backend.remove_noted([])
    assert thesis.exists() and not (tmp_path / 'run' / 'best_1.pth').exists()


def test_a_metric_that_no_validation_gives_is_said_in_one_line(tmp_path):
    hook = dict(type='mmkd_atsc.AtomicCheckpointHook', save_best='toy/ac', rule='greater')
    runner = toy_runner(tmp_path, batches(), hooks=dict(OURS, checkpoint=hook), validate=True)
    with pytest.raises(TrainingStopped, match="save_best='toy/ac': the validation gives toy/acc, toy/err; did you"):
        runner.train()
