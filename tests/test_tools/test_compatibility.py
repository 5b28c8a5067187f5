"""A classifier family of MMPretrain or timm is supported, or refused in one line, as the committed tables say."""
import importlib

import pytest

from tests.conftest import ROOT

FOLDER = ROOT / 'configs' / 'mix'
# A network of each kind. MMPretrain's: a map, a vector, two vectors, tokens, branches of a head, a backbone that
# classifies, and idle parameters. timm's: maps, one behind a 1x1 convolution, tokens, channels last, a norm and a layer
# between pooling and classifier, pixels folded into channels, and two classifiers.
KINDS = {
    'COMPATIBILITY.md': ('mobilenet_v2', 'deit', 'deit (distilled)', 'conformer', 'mlp_mixer', 'levit', 'lenet',
                         'deit3'),
    'TIMM.md': ('resnet', 'dla', 'vision_transformer', 'mambaout', 'convnext', 'mobilenetv3', 'cspnet', 'levit')}
each_table = pytest.mark.parametrize('page', KINDS)


def tool_of(page):
    if page == 'TIMM.md':
        pytest.importorskip('timm')
    return importlib.import_module(f'analysis.{"timm_" if page == "TIMM.md" else ""}compatibility')


@each_table
def test_a_network_of_each_kind_has_the_committed_row(page):
    tool, lines = tool_of(page), (FOLDER / page).read_text().splitlines()
    outcomes = list(tool.outcomes_of(KINDS[page]))
    assert [tool.row(outcome) for outcome in outcomes if tool.row(outcome) not in lines] == []
    reasons = {f'- {outcome.family}, {label}: {getattr(outcome, role)}.' for outcome in outcomes
               for role, label in tool.ROLES.items() if getattr(outcome, role)}
    assert len(reasons) > (page != 'TIMM.md') and reasons <= set(lines)


@pytest.mark.slow
@each_table
def test_the_committed_table_is_what_comes_out(page):
    tool = tool_of(page)
    assert (FOLDER / page).read_text() == tool.table(tool.outcomes_of(tool.NETWORKS))


@each_table
def test_no_family_is_forgotten(page, monkeypatch):
    tool = tool_of(page)
    forgotten = tool.missing_families if page == 'TIMM.md' else tool.unsorted_folders
    assert forgotten() == []
    monkeypatch.delitem(tool.NETWORKS, 'xcit')
    assert forgotten() == ['xcit']


def test_timms_table_holds_every_family_and_most_of_them_teach():
    tool = tool_of('TIMM.md')
    rows = [line.split(' | ') for line in (FOLDER / 'TIMM.md').read_text().splitlines() if line.count(' | ') > 7][1:]
    assert [row[0].removeprefix('| ') for row in rows] == list(tool.NETWORKS)
    shares = {role: sum(row[2 + place] == 'yes' for row in rows) / len(rows) for place, role in enumerate(tool.ROLES)}
    assert shares['aekt_teacher'] >= 0.9 and shares['teacher'] >= 0.75
