"""The sweep trains a run a weight, once, and writes what was measured."""
import csv

import pytest

from tests.conftest import refusal, run_here
from tests.test_tools.test_atsc_training import ATSC, tiny_classifier

SWEEP = 'analysis/sweep_anchor.py'


@pytest.fixture
def config(tmp_path, teacher_checkpoint):
    path = tmp_path / 'atsc.py'
    path.write_text(f'TEACHER = {tiny_classifier(8)!r}\nCHECKPOINT = {teacher_checkpoint!r}\n{ATSC}')
    return path


def test_sweep_writes_table_and_plot_and_reuses_runs(tmp_path, config, capsys):
    out = tmp_path / 'sweep'
    command = (SWEEP, config, '--weights', 1000, 0, '--out', out, '--cfg-options',
               'custom_hooks.0.start=0', 'train_cfg.max_epochs=1', 'optim_wrapper.optimizer.lr=0.0001')
    run_here(*command)
    assert 'training' in capsys.readouterr().out
    rows = list(csv.DictReader((out / 'sweep.csv').open()))
    assert [float(row['anchor_weight']) for row in rows] == [0, 1000]
    # A strong anchor holds the teacher.
    assert float(rows[1]['drift']) < float(rows[0]['drift'])
    assert (out / 'sweep.png').stat().st_size > 5000
    run_here(*command)
    assert 'training' not in capsys.readouterr().out
    other = refusal(capsys, *command[:-1], 'optim_wrapper.optimizer.lr=0.1')
    assert 'finished run of something else' in other and 'give another --out' in other


@pytest.mark.parametrize('weight', ['nan', '-1'])
def test_no_run_starts_before_all_weights_are_read(tmp_path, config, weight, capsys):
    assert 'must be a number at least 0' in refusal(capsys, SWEEP, config, '--weights', 1, weight, '--out',
                                                    tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_config_that_is_not_there_says_so(tmp_path, capsys):
    assert 'no such config' in refusal(capsys, SWEEP, 'nowhere.py', '--out', tmp_path)
