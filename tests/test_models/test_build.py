"""A student or a teacher from whatever names it, also where the config comes through a package path."""
import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope


@pytest.mark.parametrize('method, scope', [('kd', 'mmrazor'), ('aekt', 'mmpretrain'), ('atsc', 'mmrazor')])
def test_a_config_elsewhere_inherits_ours_by_package_path(tmp_path, method, scope):
    """MMEngine marks every dict of such a base with our scope, which must not reach other packages' constructors."""
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = 'mmkd_atsc::{method}/resnet110_resnet32_cifar100.py'\n"
                    'model = dict(teacher_ckpt=None, allow_random_teacher=True,\n'
                    "             teacher=dict(backbone=dict(depth=8)))\n")
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(Config.fromfile(path).model)
    assert len(model.student.backbone.layer1) == 5 and len(model.teacher.backbone.layer1) == 1
