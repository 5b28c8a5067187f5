"""The size of a student beside its teacher; no test asserts how fast they are."""
import csv
from importlib.util import find_spec

import pytest

from mmkd_atsc.export import FORMATS
from tests.conftest import ROOT, run_here

FEW = ('--batch', 2, '--repeats', 1)


@pytest.fixture(autouse=True)
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools' / 'benchmark'))


def test_what_projector_and_classifier_add(tmp_path, capsys):
    run_here('benchmark/deploy.py', ROOT / 'configs/demo/atsc_digits.py', *FEW, '--out', tmp_path)
    with (tmp_path / 'deploy.csv').open() as file:
        rows = {row.pop('network'): row for row in csv.DictReader(file)}
    student, encoder, teacher = (rows[name] for name in ('student', "student's encoder alone", 'teacher'))
    assert [int(row['parameters']) for row in (student, encoder, teacher)] == [17726, 5044, 272474]
    # By hand, an 8x8 map: convolutions 16 to 32, 32 to 32 by 3x3, 32 to 64, and 64 channels to 10 classes. MMEngine
    # counts a batch norm's scale and shift and an average's sum beside them, some percent of it.
    flops = 1e6 * (float(student['FLOPs, M']) - float(encoder['FLOPs, M']))
    assert flops == pytest.approx(64 * (16 * 32 + 9 * 32 * 32 + 32 * 64) + 640, rel=0.04)
    assert bool(student['onnxruntime, ms']) == all(map(find_spec, FORMATS['onnx'].packages))
    assert all(float(row['torch, images/s']) > 0 for row in rows.values())
    assert (tmp_path / 'deploy.md').read_text() in capsys.readouterr().out
