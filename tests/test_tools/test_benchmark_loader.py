"""The loader's benchmark runs and prints its ratio; how fast a machine is, is nobody's test."""
import re

from tests.conftest import assert_one_line_error, run_tool

SMALL = ('benchmark/loader.py', '--images', 96, '--batch', 32, '--repeats', 1)


def test_a_table_of_ratios_is_printed(monkeypatch):
    monkeypatch.delenv('MMKD_DATA_ROOT', raising=False)
    done = run_tool(*SMALL)
    assert done.returncode == 0, done.stderr
    assert re.search(r'torch \d.*1 thread.*random images, batch 32', done.stdout)
    assert re.search(r'^\| cifar100_classic \| [\d,]+ \| 1\.00 \|$', done.stdout, flags=re.M)
    assert re.search(r'^\| cifar100 \| [\d,]+ \| \d+\.\d\d \|$', done.stdout, flags=re.M)


def test_data_that_are_not_there_are_named():
    assert_one_line_error(run_tool(*SMALL, '--data-root', 'nowhere'), 'Cannot find CIFAR100 dataset in nowhere')
