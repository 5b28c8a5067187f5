"""A classifier family of MMPretrain is supported, or refused in one line, as the committed table says."""
import pytest

from tests.conftest import ROOT

TABLE = ROOT / 'configs' / 'mix' / 'COMPATIBILITY.md'
# A network of each kind: a map, a vector, two vectors, tokens, branches of a head, a backbone that classifies, and idle
# parameters.
KINDS = ('mobilenet_v2', 'deit', 'deit (distilled)', 'conformer', 'mlp_mixer', 'levit', 'lenet', 'deit3')


@pytest.fixture(scope='module')
def tool():
    from analysis import compatibility  # which imports all of MMPretrain
    return compatibility


def test_a_network_of_each_kind_has_the_committed_row(tool):
    lines, outcomes = TABLE.read_text().splitlines(), tool.outcomes_of(KINDS)
    assert [tool.row(outcome) for outcome in outcomes if tool.row(outcome) not in lines] == []
    reasons = {f'- {outcome.family}, {label}: {getattr(outcome, role)}.' for outcome in outcomes
               for role, label in tool.ROLES.items() if getattr(outcome, role)}
    assert len(reasons) > 1 and reasons <= set(lines)


@pytest.mark.slow
def test_the_committed_table_is_what_comes_out(tool):
    assert TABLE.read_text().splitlines() == tool.table(tool.outcomes_of(tool.NETWORKS)).splitlines()


def test_no_folder_of_configs_is_forgotten(tool, monkeypatch):
    assert tool.unsorted_folders() == []
    monkeypatch.delitem(tool.NETWORKS, 'xcit')
    assert tool.unsorted_folders() == ['xcit']
