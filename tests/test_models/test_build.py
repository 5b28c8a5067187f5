"""A student or a teacher from whatever names it, also where the config comes through a package path."""
import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmkd_atsc.models.build import build_network, resolve_network


@pytest.mark.parametrize('method', ['kd', 'dkd', 'aekt', 'atsc', 'simkd'])
@pytest.mark.parametrize('scope', ['mmpretrain', 'mmrazor'])
def test_a_config_elsewhere_inherits_ours_by_package_path(tmp_path, method, scope):
    """MMEngine marks every dict of such a base with our scope, which must not reach other packages' constructors."""
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = 'mmkd_atsc::{method}/resnet110_resnet32_cifar100.py'\n"
                    'model = dict(teacher_ckpt=None, allow_random_teacher=True,\n'
                    "             teacher=dict(backbone=dict(depth=8)))\n")
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(Config.fromfile(path).model)
    assert len(model.student.backbone.layer1) == 5 and len(model.teacher.backbone.layer1) == 1


def test_overrides_reach_a_named_network():
    source = resolve_network(dict(cfg_path='mmkd_atsc::teachers/resnet20_cifar100.py', head=dict(num_classes=7)), 'x')
    assert build_network(source, 'x').head.fc.out_features == 7
