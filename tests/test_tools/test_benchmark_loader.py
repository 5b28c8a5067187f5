"""The loader's benchmark prints its ratio; no test asserts a speed."""
import re

import torch

from tests.conftest import refusal, run_here

SMALL = ('benchmark/loader.py', '--images', 96, '--batch', 32, '--repeats', 1)


def test_a_table_of_ratios_is_printed(monkeypatch, capsys):
    monkeypatch.delenv('MMKD_DATA_ROOT', raising=False)
    monkeypatch.setattr(torch, 'set_num_threads', lambda count: None)
    run_here(*SMALL)
    said = capsys.readouterr().out
    assert re.search(r'torch \d.*1 thread.*random images, batch 32', said)
    assert re.search(r'^\| cifar100_classic \| [\d,]+ \| 1\.00 \|$', said, flags=re.M)
    assert re.search(r'^\| cifar100 \| [\d,]+ \| \d+\.\d\d \|$', said, flags=re.M)
    assert 'Cannot find CIFAR100 dataset in nowhere' in refusal(capsys, *SMALL, '--data-root', 'nowhere')
