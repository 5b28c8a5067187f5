"""A few kills of what ``tests/faults/run.py`` does by the dozen, and whether it would notice a loss."""
import pytest
import torch

from tests.faults import run
from tests.faults.trainings import compare


def test_a_training_that_is_killed_again_and_again_ends_as_if_nothing_had_happened(capsys):
    assert run.main(['--kills', '3']) == 0, capsys.readouterr().out
    assert '3 kills, 0 training(s) that did not' in capsys.readouterr().out


@pytest.mark.parametrize('change', [
    dict(a=[torch.tensor([1.0, 2.0 + 1e-6])]), dict(a=[torch.tensor([1.0])]), dict(a=[]), dict(b=1), dict(a=(1, ))])
def test_the_comparison_sees_the_last_bit(change):
    value = dict(a=[torch.tensor([1.0, 2.0])])
    assert list(compare(value, dict(a=[torch.tensor([1.0, 2.0])]))) == []
    assert list(compare(value, change))
