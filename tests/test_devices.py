"""Which device tests run on."""
import sys

import pytest

from tests.conftest import ROOT, run_command


@pytest.mark.parametrize('asked, visible', [('', ''), ('cuda', '0')])
def test_a_gpu_is_hidden_from_tests_and_from_what_they_start_unless_asked_for(asked, visible):
    show = 'import os, tests.conftest; print(os.environ["CUDA_VISIBLE_DEVICES"])'
    done = run_command(sys.executable, '-c', show, CUDA_VISIBLE_DEVICES='0', MMKD_TEST_DEVICE=asked,
                       PYTHONPATH=str(ROOT))
    assert done.stdout == f'{visible}\n', done.stderr
