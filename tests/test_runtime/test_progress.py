"""The bar on a terminal: what it shows, that the log file keeps every line, and that elsewhere there is none."""
import io
import re
import sys

import pytest
from mmengine.hooks import Hook

from mmkd_atsc.runtime import ProgressHook
from mmkd_atsc.runtime.progress import find_terminal
from tests.test_runtime.toy_training import OURS, batches, toy_runner

pytest.importorskip('rich')
pytestmark = pytest.mark.usefixtures('in_process')


def console():
    from rich.console import Console
    return Console(force_terminal=True, file=io.StringIO(), width=150)


def train(work_dir, hook, **options):
    runner = toy_runner(work_dir, batches(8), hooks=dict(OURS, progress=hook), validate=True, **options)
    runner.train()
    return next(work_dir.glob('*/*.log')).read_text()


def plain(text):
    return re.sub(r'\x1b\[[\d;?]*[a-zA-Z]', '', text)


def test_a_terminal_shows_the_bar_and_the_file_keeps_the_lines(tmp_path, monkeypatch):
    monkeypatch.setattr('mmkd_atsc.runtime.progress.SECONDS_BETWEEN_REFRESHES', 0)
    hook = ProgressHook()
    hook.console = console()
    log = train(tmp_path, hook)
    screen = plain(hook.console.file.getvalue())
    last = [line for line in screen.splitlines() if '100%' in line][-1]
    assert last.startswith('epoch 2/2') and 'toy acc 1.00' in last and '0:00:00' in last
    # What the bar says of a loss is what the logger wrote last, in four digits instead of four decimals.
    shown, logged = re.search(r' loss ([\d.]+)', last)[1], re.findall(r' loss: ([\d.]+)', log)[-1]
    assert float(shown) == pytest.approx(float(logged), abs=6e-5)
    assert 'epoch 1/2' in screen and 'epoch 2/2' in screen and 'validation' in screen
    assert log.count('Epoch(train)') == 4 and 'Exp name' in log
    assert 'Epoch(train)' not in screen and 'Exp name' not in screen
    # The rest stays, above the bar: what a validation found, and where a checkpoint went.
    assert screen.count('Epoch(val)') == 2 and 'Saving checkpoint at 2 epochs' in screen


def test_the_terminal_is_given_back_also_when_training_fails(tmp_path):
    hook = ProgressHook()
    hook.console = console()
    runner = toy_runner(tmp_path, batches(factor={3: float('nan')}), hooks=dict(OURS, progress=hook))
    streams = [handler.stream for handler in runner.logger.handlers]
    with pytest.raises(Exception, match='loss_scaled'):
        runner.train()
    assert [handler.stream for handler in runner.logger.handlers] != streams
    hook.close()  # what Python calls when it ends
    assert [handler.stream for handler in runner.logger.handlers] == streams
    assert not any(handler.filters[1:] for handler in runner.logger.handlers)
    before = hook.console.file.getvalue()
    runner.logger.info('after the end')
    assert hook.console.file.getvalue() == before


def test_it_waits_for_no_loss(tmp_path):
    """A loss in a step that nobody logs is not read: the bar has the last line's until the next."""
    hook = ProgressHook()
    hook.console = console()
    shown = []

    class Watch(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            shown.append(hook._bar.tasks[0].fields['losses'])

    runner = toy_runner(tmp_path, batches(8), hooks=dict(OURS, progress=hook), interval=4,
                        train_cfg=dict(by_epoch=True, max_epochs=1))
    runner.register_hook(Watch(), priority='VERY_LOW')
    runner.train()
    assert shown[:3] == [''] * 3 and shown[3].startswith('loss ') and shown[3] == shown[6] != shown[7]


@pytest.mark.parametrize('is_terminal, term, expected', [(True, 'xterm', True), (True, 'dumb', False),
                                                         (False, 'xterm', False)])
def test_only_a_terminal_that_moves_its_cursor_is_one(monkeypatch, is_terminal, term, expected):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: is_terminal, raising=False)
    monkeypatch.setenv('TERM', term)
    monkeypatch.setenv('FORCE_COLOR', '1')
    assert (find_terminal() is not None) == expected


def test_without_rich_and_in_other_processes_there_is_no_bar(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True, raising=False)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, 'rich.console', None)
        assert find_terminal() is None
    monkeypatch.setattr('mmkd_atsc.runtime.progress.is_main_process', lambda: False)
    hook = ProgressHook()
    hook.console = console()
    assert 'Epoch(train)' in train(tmp_path, hook)
    assert hook.console.file.getvalue() == ''


def test_training_by_iterations_is_counted_in_iterations(tmp_path):
    hook = ProgressHook()
    hook.console = console()
    train(tmp_path, hook, train_cfg=dict(by_epoch=False, max_iters=6, val_interval=3))
    assert 'iteration 5/6' in plain(hook.console.file.getvalue())
