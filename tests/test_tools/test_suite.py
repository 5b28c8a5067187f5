"""What is done is not trained again, what was interrupted goes on, what has changed is trained anew."""
import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from analysis import suite
from analysis.suite import Failed, Row, run_suite
from analysis.training import Stop, Stopped, TrainingFailed
from tests.conftest import ROOT


class Training:
    """Stands for ``tools/train.py``: notes the call and leaves a checkpoint."""

    def __init__(self):
        self.calls, self.fails, self.weights = [], {}, b'weights'

    def __call__(self, config, work_dir, stop, options=(), switches=(), resume=False, lock=None, **environment):
        self.calls.append((work_dir.name, resume, environment))
        if work_dir.name in self.fails:
            raise self.fails[work_dir.name]
        (work_dir / 'epoch_1.pth').write_bytes(self.weights)
        (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_1.pth'))

    @property
    def names(self):
        return [call[0] for call in self.calls]


@pytest.fixture
def training(monkeypatch):
    fake = Training()
    monkeypatch.setattr(suite, 'run_training', fake)
    return fake


@pytest.fixture
def rows(tmp_path):
    for name in ('teacher', 'student'):
        (tmp_path / f'{name}.py').write_text('value = 1\nseed = 0\n')
    return [Row('T', tmp_path / 'teacher.py', 'teacher'),
            Row('S', tmp_path / 'student.py', 'student', ('teacher', ), ('seed=1', ))]


@pytest.fixture
def out(tmp_path):
    return tmp_path / 'out'


def states(results):
    return [result.state for result in results]


def test_what_a_row_learns_from_comes_first_and_what_is_done_is_not_trained_again(rows, training, out):
    first = run_suite(rows[::-1], out, workers=2)
    assert states(first) == ['done', 'done'] and training.names == ['teacher', 'student']
    assert training.calls[0][2]['OMP_NUM_THREADS'] == '1'
    assert run_suite(rows[::-1], out) == first and len(training.calls) == 2


def test_what_fails_keeps_only_those_that_need_it(rows, training, tmp_path, out):
    (tmp_path / 'other.py').write_text('value = 1\n')
    rows.append(Row('other', tmp_path / 'other.py', 'other'))
    training.fails = {'teacher': TrainingFailed('broken')}
    with pytest.raises(Failed, match='broken') as caught:
        run_suite(rows, out)
    assert states(caught.value.results) == ['failed', 'waiting', 'done'] and training.names == ['teacher', 'other']
    training.fails = {}
    assert states(run_suite(rows, out)) == ['done'] * 3
    assert [call[:2] for call in training.calls[2:]] == [('teacher', True), ('student', False)]


def test_two_suites_in_one_folder_are_refused_and_what_a_killed_one_left_too(rows, out, monkeypatch):
    """A process that has the descriptor holds the lock, whoever started it."""

    def train(config, work_dir, *args, lock, **kwargs):
        monkeypatch.setattr(suite, 'left', subprocess.Popen(['sleep', '60'], pass_fds=[lock]), raising=False)
        raise RuntimeError('killed')

    monkeypatch.setattr(suite, 'run_training', train)
    for error, words in ((RuntimeError, 'killed'), (ValueError, 'out: another suite trains there, or what one')):
        with pytest.raises(error, match=words):
            run_suite(rows, out)
    suite.left.kill()
    suite.left.wait()
    with pytest.raises(RuntimeError, match='killed'):
        run_suite(rows, out)
    suite.left.kill()


def test_a_changed_config_option_or_teacher_is_trained_anew(rows, training, tmp_path, out):
    run_suite(rows, out)
    (tmp_path / 'student.py').write_text('model = dict(value=2)\n')
    run_suite(rows, out)
    assert training.calls[2:] == [('student', False, {})]
    assert (out / 'student.old1' / 'epoch_1.pth').exists()
    rows[1] = rows[1]._replace(options=('randomness.seed=2', ))
    run_suite(rows, out)
    assert training.calls[3:] == [('student', False, {})]
    training.weights = b'others'
    (tmp_path / 'teacher.py').write_text('model = dict(value=3)\n')
    run_suite(rows, out)
    assert training.names[4:] == ['teacher', 'student'] and (out / 'student.old3').is_dir()


def test_the_budget_stops_what_trains_and_begins_no_more(rows, training, out):
    training.fails = {'teacher': Stopped('late')}
    assert states(run_suite(rows, out, stop=Stop(100))) == ['stopped', 'waiting'] and training.names == ['teacher']
    training.fails = {}
    assert states(run_suite(rows, out, stop=Stop(1e-9))) == ['stopped', 'waiting'] and len(training.calls) == 1
    assert states(run_suite(rows, out, stop=Stop(100))) == ['done', 'done']
    assert training.calls[1][:2] == ('teacher', True)


def test_a_folder_of_something_else_is_left_alone(rows, training, out):
    (out / 'teacher').mkdir(parents=True)
    (out / 'teacher' / 'thesis.txt').write_text('mine')
    with pytest.raises(ValueError, match='teacher is there and not of a suite'):
        run_suite(rows, out)
    assert (out / 'teacher' / 'thesis.txt').exists() and not training.calls


# tools/reproduce.py, whose trainings do nothing and take long.
COMMAND = """
import signal, sys
from pathlib import Path
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)  # whatever runs the tests may ignore some
sys.path.insert(0, {tools!r})
from analysis import training
training.TRAIN = Path({train!r})
from reproduce import main
main(['digits', '--out', {out!r}, '--rows', 'teacher_digits'])
"""


def test_a_signal_ends_the_trainings_too(tmp_path):
    """The signal reaches the command alone; it dies by it, the row is noted, and nothing goes on."""
    begun, out, train = tmp_path / 'begun', tmp_path / 'out', tmp_path / 'train.py'
    # Times are noted in tenths of a second, so it takes some before it says that it has begun.
    train.write_text(f'import time\ntime.sleep(0.5)\nopen({str(begun)!r}, "w")\ntime.sleep(600)\n')
    process = subprocess.Popen(
        [sys.executable, '-c', COMMAND.format(tools=str(ROOT / 'tools'), train=str(train), out=str(out))], text=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT)), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True)
    try:
        end = time.monotonic() + 120
        while not begun.is_file():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.1)
        process.terminate()
        said, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert said.endswith('not done: teacher_digits (stopped); the same command goes on\n'), errors
    assert process.returncode == -signal.SIGTERM
    note = json.loads((out / 'teacher_digits' / 'suite.json').read_text())
    assert not note['finished'] and note['seconds'] > 0
    with open(out / 'suite.lock') as lock:  # which a training that went on would hold
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
