"""Who ends a command ends its trainings, and sees that it was ended."""
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from tests.conftest import ROOT

# tools/reproduce.py, whose trainings do nothing and take long.
COMMAND = """
import sys
from pathlib import Path
sys.path.insert(0, {tools!r})
from analysis import training
training.TRAIN = Path({train!r})
from reproduce import main
main(['digits', '--out', {out!r}, '--rows', 'teacher_digits'])
"""


def heed_all():
    """What runs the tests may ignore some, and a process inherits that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def command(tmp_path):
    """Starts it as from a terminal, in a group of its own, and comes back when its training has begun."""
    begun, out = tmp_path / 'begun', tmp_path / 'out'
    # Times are noted in tenths of a second, so it takes some before it says that it has begun.
    (tmp_path / 'train.py').write_text(
        f'import time\ntime.sleep(0.5)\nopen({str(begun)!r}, "w")\ntime.sleep(600)\n')
    (tmp_path / 'command.py').write_text(COMMAND.format(tools=str(ROOT / 'tools'), train=str(tmp_path / 'train.py'),
                                                        out=str(out)))
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONUNBUFFERED'}
    processes = []

    def start(stdout=subprocess.PIPE):
        processes.append(subprocess.Popen(
            [sys.executable, str(tmp_path / 'command.py')], env=dict(environment, PYTHONPATH=str(ROOT)), text=True,
            stdout=stdout, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=heed_all))
        end = time.monotonic() + 120
        while not begun.is_file():
            assert processes[0].poll() is None and time.monotonic() < end
            time.sleep(0.1)
        return processes[0]

    yield start, out
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def assert_ended(process, number, out):
    """The process died by the signal, the row is noted, and nothing of it goes on."""
    assert process.returncode == -number
    note = json.loads((out / 'teacher_digits' / 'suite.json').read_text())
    assert not note['finished'] and note['seconds'] > 0
    with open(out / 'suite.lock') as lock:  # which a training that went on would hold
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_trainings_end_too(command):
    """The signal reaches the command alone."""
    start, out = command
    process, number = start(), signal.SIGTERM
    os.kill(process.pid, number)
    said, errors = process.communicate(timeout=60)
    assert said.endswith('not done: teacher_digits (stopped); the same command goes on\n'), errors
    assert_ended(process, number, out)
