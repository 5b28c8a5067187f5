"""The benchmarks run and print their ratios; how fast they are is nobody's test."""
import re

import pytest

from tests.conftest import assert_one_line_error, run_tool


@pytest.mark.parametrize('tool, args, rows', [
    ('atsc_step.py', ['--pairs', 'resnet14_resnet8', '--batch', 2, '--repeats', 1], 1),
    ('aekt_step.py', ['--pairs', 'resnet14_resnet8', '--batch', 2, '--repeats', 1], 1),
    ('multi_teacher.py', ['--student', 'resnet8', '--teachers', 'resnet8', 'resnet8', '--batch', 2, '--repeats', 1], 4),
    ('train.py', ['--pair', 'wrn_40_2_wrn_40_1', '--batch', 2, '--images', 6], 3),
    ('losses.py', ['--shapes', '8x10', '--threads', 1], 1),
])
def test_a_table_of_ratios_is_printed(tool, args, rows):
    done = run_tool(f'benchmark/{tool}', *args)
    assert done.returncode == 0, done.stderr
    assert re.search(r'torch \d', done.stdout)
    assert len(re.findall(r'^\|.*\|\s*\d+\.\d\d \|$', done.stdout, re.M)) == rows, done.stdout


def test_what_is_not_known_is_refused():
    assert_one_line_error(run_tool('benchmark/atsc_step.py', '--pairs', 'resnet9_resnet8'), 'resnet9_resnet8')
    assert_one_line_error(run_tool('benchmark/multi_teacher.py', '--teachers', 'resnet9'), "network='resnet9'")
