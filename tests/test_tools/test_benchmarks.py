"""The benchmarks run and print their ratios; how fast they are is nobody's test."""
import re

import pytest

from tests.conftest import assert_one_line_error, run_tool


@pytest.mark.parametrize('tool, args', [
    ('benchmark/atsc_step.py', ['--pairs', 'resnet14_resnet8', '--batch', 2, '--repeats', 1]),
    ('benchmark/losses.py', ['--shapes', '8x10', '--threads', 1]),
])
def test_a_table_of_ratios_is_printed(tool, args):
    done = run_tool(tool, *args)
    assert done.returncode == 0, done.stderr
    assert re.search(r'torch \d', done.stdout) and re.search(r'\|\s*\d+\.\d+', done.stdout)


def test_an_unknown_pair_is_refused():
    assert_one_line_error(run_tool('benchmark/atsc_step.py', '--pairs', 'resnet9_resnet8'), 'resnet9_resnet8')
