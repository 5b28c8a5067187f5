"""The sweep trains a run a weight, once, and writes what was measured."""
import csv

import pytest

from tests.conftest import assert_one_line_error, run_tool
from tests.test_tools.test_atsc_training import ATSC, tiny_classifier


def test_sweep_writes_table_and_plot_and_reuses_runs(tmp_path, teacher_checkpoint):
    config, out = tmp_path / 'atsc.py', tmp_path / 'sweep'
    config.write_text(f'TEACHER = {tiny_classifier(8)!r}\nCHECKPOINT = {teacher_checkpoint!r}\n{ATSC}')
    command = ('analysis/sweep_anchor.py', config, '--weights', 1000, 0, '--out', out, '--cfg-options',
               'custom_hooks.0.start=0', 'train_cfg.max_epochs=2', 'optim_wrapper.optimizer.lr=0.0001')
    done = run_tool(*command)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((out / 'sweep.csv').open()))
    assert [float(row['anchor_weight']) for row in rows] == [0, 1000]
    # A strong anchor holds the teacher.
    assert float(rows[1]['drift']) < float(rows[0]['drift'])
    assert (out / 'sweep.png').stat().st_size > 5000
    again = run_tool(*command)
    assert again.returncode == 0 and 'training' not in again.stdout
    other = run_tool(*command[:-1], 'optim_wrapper.optimizer.lr=0.1')
    assert_one_line_error(other, 'finished run of something else', 'give another --out')


@pytest.mark.parametrize('weight', ['nan', '-1'])
def test_no_run_starts_before_all_weights_are_read(tmp_path, teacher_checkpoint, weight):
    config = tmp_path / 'atsc.py'
    config.write_text(f'TEACHER = {tiny_classifier(8)!r}\nCHECKPOINT = {teacher_checkpoint!r}\n{ATSC}')
    done = run_tool('analysis/sweep_anchor.py', config, '--weights', 1, weight, '--out', tmp_path / 'out')
    assert_one_line_error(done, 'must be a number at least 0')
    assert 'training' not in done.stdout


def test_a_config_without_a_teacher_says_so(tmp_path):
    assert_one_line_error(run_tool('analysis/sweep_anchor.py', 'nowhere.py', '--out', tmp_path), 'no such config')
