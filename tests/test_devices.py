"""Which device tests run on."""
import os
import sys

from tests.conftest import ROOT, run_command


def test_a_gpu_is_hidden_from_tests_and_from_what_they_start_unless_asked_for():
    assert os.environ['CUDA_VISIBLE_DEVICES'] == ''
    show = 'import os, tests.conftest; print(os.environ["CUDA_VISIBLE_DEVICES"])'
    done = run_command(sys.executable, '-c', show, CUDA_VISIBLE_DEVICES='0', MMKD_TEST_DEVICE='cuda',
                       PYTHONPATH=str(ROOT))
    assert done.stdout == '0\n', done.stderr
