"""A teacher is what its checkpoint says, sees the input it was trained on, and stays as it is."""
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmkd_atsc.models.normalization import Renormalize
from mmkd_atsc.models.teacher import Teacher, fingerprint
from tests.conftest import tiny_classifier


def test_a_teacher_needs_a_checkpoint_that_fits(teacher_checkpoint):
    with pytest.raises(ValueError, match='teacher has no checkpoint: set teacher_ckpt'):
        Teacher(tiny_classifier(8))
    for wrong in (tiny_classifier(4), tiny_classifier(8, num_classes=7), tiny_classifier(8, depth=14)):
        with pytest.raises(ValueError, match=r'teacher\.pth does not fit teacher: '):
            Teacher(wrong, teacher_checkpoint)


def test_another_teacher_at_resume_is_refused(teacher_checkpoint):
    random, trained = Teacher(tiny_classifier(8), allow_random=True), Teacher(tiny_classifier(8), teacher_checkpoint)
    with pytest.raises(ValueError, match='trained with another teacher than teacher_ckpt gives'):
        trained.load_state_dict(random.state_dict())
    random.load_state_dict(trained.state_dict())  # scoring needs no file


@pytest.mark.parametrize('source_rgb, target_rgb', [(True, True), (True, False), (False, True)])
def test_renormalised_images_are_those_of_the_other_preprocessor(source_rgb, target_rgb):
    raw = torch.randint(0, 256, (2, 3, 5, 5)).float()
    config = dict(type='mmpretrain.ClsDataPreprocessor')
    source = MODELS.build(dict(config, mean=[120., 110., 100.], std=[60., 61., 62.], to_rgb=source_rgb))
    target = MODELS.build(dict(config, mean=[10., 20., 30.], std=[5., 6., 7.], to_rgb=target_rgb))
    wanted = target(dict(inputs=raw))['inputs']
    got = Renormalize(source, target)(source(dict(inputs=raw))['inputs'])
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-5)


def test_a_config_file_or_a_package_path_names_a_teacher(tmp_path):
    path = tmp_path / 'net.py'
    path.write_text(f'model = {tiny_classifier(8)!r}\ndata_preprocessor = dict(mean=[1.] * 3, std=[2.] * 3)\n')
    assert Teacher(str(path), allow_random=True).model.data_preprocessor.mean.flatten().tolist() == [1.] * 3
    zoo = Teacher(dict(cfg_path='mmpretrain::resnet/resnet18_8xb32_in1k.py', head=dict(num_classes=7)),
                  allow_random=True)
    assert zoo.model.head.fc.out_features == 7 and zoo.model.data_preprocessor.to_rgb


def test_the_fingerprint_is_of_names_and_values_not_of_their_layout():
    model = MODELS.build(tiny_classifier(8, depth=14))
    before = fingerprint(model.state_dict())
    assert fingerprint(model.to(memory_format=torch.channels_last).state_dict()).equal(before)
    with torch.no_grad():
        model.head.fc.bias[0].add_(1)
    assert not fingerprint(model.state_dict()).equal(before)
    assert not fingerprint({'a': torch.zeros(1)}).equal(fingerprint({'b': torch.zeros(1)}))


@pytest.mark.parametrize('method, scope', [('aekt', 'mmpretrain'), ('atsc', 'mmrazor')])
def test_a_config_elsewhere_inherits_ours_by_package_path(tmp_path, method, scope):
    """MMEngine marks every dict of such a base with our scope, which must not reach other packages' constructors."""
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = 'mmkd_atsc::{method}/resnet110_resnet32_cifar100.py'\n"
                    'model = dict(teacher_ckpt=None, allow_random_teacher=True,\n'
                    "             teacher=dict(backbone=dict(depth=8)))\n")
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(Config.fromfile(path).model)
    assert len(model.student.backbone.layer1) == 5 and len(model.teacher.backbone.layer1) == 1
