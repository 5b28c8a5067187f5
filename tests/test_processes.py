"""Several processes: one that dies ends the job, unlike teachers are refused, uneven last batches train."""
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.faults.trainings import Life, write_config


@pytest.mark.parametrize('victim', ['1', 'launcher'])
def test_a_process_that_is_killed_ends_the_job_and_leaves_no_orphan(tmp_path, victim):
    """As a user starts it, by ``tools/dist_train.sh``."""
    config, log = write_config(tmp_path, 'atsc'), tmp_path / 'log'
    with log.open('w') as out:
        job = subprocess.Popen(
            [ROOT / 'tools' / 'dist_train.sh', config, '2', '--work-dir', tmp_path / 'w', '--cfg-options',
             'train_cfg.max_epochs=1000'], stdout=out, stderr=out, start_new_session=True,
            env=dict(os.environ, OMP_NUM_THREADS='1', PYTHON=sys.executable))
    try:
        until = time.monotonic() + 120
        while not list((tmp_path / 'w').glob('epoch_*.pth')):  # both train
            assert job.poll() is None and time.monotonic() < until, log.read_text()[-2000:]
            time.sleep(0.1)
        ranks = ranks_of(tmp_path / 'w')
        assert sorted(ranks) == ['0', '1']
        os.kill(ranks.get(victim, job.pid), signal.SIGKILL)
        assert job.wait(60) != 0
        time.sleep(0.5)
        assert not ranks_of(tmp_path / 'w')
        said = [line for line in log.read_text().splitlines() if 'SIGKILL' in line]
        assert said == ['process 1 was killed by SIGKILL (by hand, or because memory was full); the others were '
                        'stopped'] * (victim == '1')
    finally:
        for pid in (*ranks_of(tmp_path / 'w').values(), job.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        job.wait()


def ranks_of(work_dir):
    """The training processes that write to a folder, by rank."""
    found = {}
    for entry in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(OSError):  # it has ended
            words = Path('/proc', entry, 'cmdline').read_bytes().decode(errors='replace').split('\0')
            pairs = Path('/proc', entry, 'environ').read_bytes().decode(errors='replace').split('\0')
            environment = dict(pair.partition('=')[::2] for pair in pairs)
            if str(work_dir) in words and 'RANK' in environment:
                found[environment['RANK']] = int(entry)
    return found


def test_processes_that_read_other_teachers_are_refused(tmp_path):
    """Each by a path of its own, as on machines whose disks differ."""
    config = write_config(tmp_path, 'atsc')
    text = config.read_text().replace('CHECKPOINTS[0]', "CHECKPOINTS[int(__import__('os').environ.get('RANK', 0))]")
    config.write_text(text)
    life = Life(config, tmp_path / 'w', processes=2)
    assert all(life.wait(60)) and not list(tmp_path.glob('w/*.pth'))
    log = life.log.read_text()
    assert 'error: teacher: process 1 has read other weights than this one; teacher_ckpt must be the same file' in log
    assert 'Traceback' not in log


def test_uneven_last_batches_train(tmp_path):
    """101 images in batches of 10 on two processes: the last batch of each has one image, of which one is a repeat."""
    config = write_config(tmp_path, 'aekt')
    options = ('train_dataloader.dataset.train_images=101', 'train_cfg.max_epochs=1')
    life = Life(config, tmp_path / 'w', '--cfg-options', *options, processes=2)
    assert not any(life.wait(60)), life.log.read_text()[-2000:]
    content = torch.load(tmp_path / 'w' / 'epoch_1.pth', weights_only=True)
    assert content['meta']['iter'] == 6
    assert all(torch.isfinite(value).all() for value in content['state_dict'].values())
