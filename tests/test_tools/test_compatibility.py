"""Every classifier family of MMPretrain is supported, or refused in one line, as the committed table says."""
import pytest
import torch
from mmengine.config import Config

from tests.conftest import ROOT, assert_one_line_error, run_tool

TABLE = ROOT / 'configs' / 'mix' / 'COMPATIBILITY.md'


@pytest.fixture(scope='module')
def tool():
    from analysis import compatibility  # which imports all of MMPretrain
    return compatibility


@pytest.fixture(scope='module')
def outcomes(tool):
    return tool.outcomes_of(tool.NETWORKS)


def test_the_committed_table_is_what_comes_out(tool, outcomes):
    assert TABLE.read_text().splitlines() == tool.table(outcomes).splitlines()


def test_reasons_are_one_line_that_names_who(outcomes):
    reasons = [reason for outcome in outcomes for reason in (outcome.aekt, outcome.teacher, outcome.student) if reason]
    assert reasons and all('\n' not in reason and reason.startswith(('student: ', 'teacher: ')) for reason in reasons)


def test_enough_families_are_supported(tool, outcomes):
    families = {tool.NETWORKS[outcome.family].family for outcome in outcomes}
    for role, share in (('aekt', 0.9), ('teacher', 0.75), ('student', 0.75)):
        refused = {tool.NETWORKS[outcome.family].family for outcome in outcomes if getattr(outcome, role)}
        assert len(refused) <= (1 - share) * len(families), role


def test_no_folder_of_configs_is_forgotten(tool, monkeypatch):
    assert tool.unsorted_folders() == []
    monkeypatch.delitem(tool.NETWORKS, 'xcit')
    assert tool.unsorted_folders() == ['xcit']
    monkeypatch.setitem(tool.NETWORKS, 'sam', tool.Network('sam/vit-base-p16_sam_headless'))
    assert tool.unsorted_folders() == ['sam', 'xcit']


def test_excluded_folders_have_no_classifiers_of_their_own(tool):
    """But several labels an image: the configs in them are no ``ImageClassifier`` with a head."""
    for reason, folders in tool.EXCLUDED.items():
        for folder in folders if reason not in ('parts of configs', 'several labels an image') else ():
            for path in sorted((tool.CONFIGS / folder).glob('*.py'))[:2]:
                model = Config.fromfile(path).model
                assert model.type != 'ImageClassifier' or model.get('head') is None, path


def test_networks_take_the_backbone_that_their_config_has(tool):
    """A row speaks of its config's network: the options only make it small."""
    for name, network in tool.NETWORKS.items():
        assert not {'type', 'out_type', 'gap_before_final_norm', 'final_norm'} & set(network.backbone), name


def test_a_network_that_fails_is_named(tool, monkeypatch):
    monkeypatch.setitem(tool.NETWORKS, 'deit', tool.NETWORKS['deit']._replace(backbone=dict(img_size=32, dpeth=2)))
    with pytest.raises(RuntimeError, match=r'deit \(deit/deit-tiny_4xb256_in1k\) is neither supported nor refused'):
        tool.outcomes_of(['deit'])


def test_a_step_that_teaches_nothing_is_no_support(tool):
    network = tool.NETWORKS['resnet']
    model = tool.small_model(network)
    algorithm = tool.MultiTeacherDistill(tool.build(model), tool.build(model), dict(
        type='mmkd_atsc.AEKTDistiller'), allow_random_teacher=True)
    for parameter in algorithm.student.backbone.parameters():
        parameter.register_hook(torch.zeros_like)
    with pytest.raises(ValueError, match='architecture.backbone learns nothing'):
        tool.step(algorithm, network)


def test_the_folder_must_be_there(tmp_path):
    assert_one_line_error(run_tool('analysis/compatibility.py', '--out', tmp_path / 'none' / 'table.md'),
                          'there is no folder')
