"""A family of timm is supported, or refused in one line, as the committed table says."""
import pytest

from tests.conftest import ROOT

pytest.importorskip('timm')
TABLE = ROOT / 'configs' / 'mix' / 'TIMM.md'
# A network of each kind: maps, one behind a 1x1 convolution, tokens, channels last, a norm and a layer between pooling
# and classifier, pixels folded into channels, and two classifiers.
KINDS = ('resnet', 'dla', 'vision_transformer', 'mambaout', 'convnext', 'mobilenetv3', 'cspnet', 'levit')


@pytest.fixture(scope='module')
def tool():
    from analysis import timm_compatibility
    return timm_compatibility


def test_a_network_of_each_kind_has_the_committed_row(tool):
    lines, outcomes = TABLE.read_text().splitlines(), list(tool.outcomes_of(KINDS))
    assert [tool.row(outcome) for outcome in outcomes if tool.row(outcome) not in lines] == []
    reasons = {reason for outcome in outcomes for reason in tool.reasons(outcome)}
    assert reasons and reasons <= set(lines)


@pytest.mark.slow
def test_the_committed_table_is_what_comes_out(tool):
    assert TABLE.read_text() == tool.table(tool.outcomes_of(tool.NETWORKS))


def test_the_table_holds_every_family_and_most_of_them_teach(tool, monkeypatch):
    rows = [line.split(' | ') for line in TABLE.read_text().splitlines() if line.count(' | ') > 7][1:]
    assert [row[0].removeprefix('| ') for row in rows] == list(tool.NETWORKS) and tool.missing_families() == []
    shares = {role: sum(row[2 + place] == 'yes' for row in rows) / len(rows) for place, role in enumerate(tool.ROLES)}
    assert shares['aekt_teacher'] >= 0.9 and shares['teacher'] >= 0.75
    monkeypatch.delitem(tool.NETWORKS, 'xcit')
    assert tool.missing_families() == ['xcit']
