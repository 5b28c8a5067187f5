"""A signal that ends tools/reproduce.py ends its trainings too."""
import fcntl
import json
import os
import signal
import subprocess
import sys
import time

from tests.conftest import ROOT

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


def test_the_trainings_end_too(tmp_path):
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
