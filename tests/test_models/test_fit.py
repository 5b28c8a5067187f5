import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmkd_atsc.models.connectors import FeatureProjector
from mmkd_atsc.models.fit import fit_projector
from tests.conftest import tiny_classifier

VIT = dict(type='VisionTransformer', img_size=32, patch_size=8,
           arch=dict(embed_dims=12, num_layers=1, num_heads=2, feedforward_channels=24))


def classifier(backbone, head=None, **extra):
    return dict(type='mmpretrain.ImageClassifier', backbone=backbone, head=head, **extra)


def vit(**options):
    return classifier(dict(VIT, **options), dict(type='VisionTransformerClsHead', num_classes=10, in_channels=12))


def projects(student, teacher, options):
    """The projection of a student's feature, with the options, and the teacher's feature."""
    images = torch.randn(2, 3, 32, 32)
    features = MODELS.build(student).eval().backbone(images)
    return FeatureProjector(**options).eval()(features)[-1], MODELS.build(teacher).eval().backbone(images)[-1]


@pytest.mark.parametrize('student, teacher, wanted', [
    (tiny_classifier(4), tiny_classifier(8),
     dict(in_channels=8, out_channels=16, spatial=True, out_size=8, final_relu=True)),
    (tiny_classifier(4), vit(), dict(in_channels=8, out_channels=12, spatial=False, out_size=None, final_relu=False)),
    (vit(), vit(out_type='avg_featmap'),
     dict(in_channels=12, out_channels=12, spatial=False, out_size=None, final_relu=False)),
    (vit(out_type='featmap'), tiny_classifier(8),
     dict(in_channels=12, out_channels=16, spatial=True, out_size=8, final_relu=True)),
])
def test_what_fits(student, teacher, wanted):
    assert fit_projector(student, teacher, image_size=32) == wanted
    projected, feature = projects(student, teacher, wanted)
    assert projected.shape[1] == feature.shape[1] and projected.dim() == feature.dim()
    assert (projected.min() >= 0) == (feature.min() >= 0)


def test_maps_that_are_not_square():
    teacher = MODELS.build(tiny_classifier(8))
    teacher.backbone.register_forward_hook(lambda module, args, output: (output[-1][:, :, :, :4], ))
    assert fit_projector(tiny_classifier(), teacher, 32)['out_size'] == (8, 4)


def test_built_models_and_the_random_numbers_stay_as_they_are():
    student, teacher = MODELS.build(tiny_classifier()).train(), MODELS.build(tiny_classifier(8)).eval()
    student.backbone.bn1.eval()
    before = [{key: value.clone() for key, value in model.state_dict().items()} for model in (student, teacher)]
    modes = [[module.training for module in model.modules()] for model in (student, teacher)]
    state = torch.get_rng_state()
    fit_projector(student, teacher, 32)
    assert torch.equal(torch.get_rng_state(), state)
    for model, values, training in zip((student, teacher), before, modes):
        assert all(torch.equal(values[key], value) for key, value in model.state_dict().items())
        assert [module.training for module in model.modules()] == training


def test_configs_leave_the_random_numbers_alone():
    state = torch.get_rng_state()
    fit_projector(tiny_classifier(), vit(), 32)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize('student, teacher, size, error, words', [
    (vit(), tiny_classifier(), 32, ValueError, r"student: its VisionTransformer gives no map, but a feature of "
     r"shape \(1, 12\), and the teacher a map of shape \(1, 8, 8, 8\); set out_type='featmap'"),
    (vit(out_type='raw'), vit(), 32, ValueError, r"student: its VisionTransformer \(out_type='raw'\) gives"),
    (tiny_classifier(), vit(out_type='raw'), 32, ValueError,
     r"teacher: its VisionTransformer \(out_type='raw'\) gives"),
    (vit(), vit(), 30.5, TypeError, 'image_size=30.5 must be an integer at least 1'),
    (tiny_classifier(), nn.Linear(2, 2), 32, TypeError, 'teacher must be a config dict'),
    (tiny_classifier(), classifier(VIT), 32, ValueError, 'teacher: the ImageClassifier has no head'),
    (classifier(dict(type='VGG', depth=11, num_classes=10)), vit(), 32, ValueError,
     r'student: VGG classifies inside the backbone and gives no feature \(set num_classes=-1\)'),
])
def test_what_does_not_fit_says_why_in_one_line(student, teacher, size, error, words):
    with pytest.raises(error, match=words) as caught:
        fit_projector(student, teacher, size)
    assert '\n' not in str(caught.value)


def test_images_that_a_network_cannot_read():
    mixer = classifier(dict(type='MlpMixer', img_size=64, patch_size=16, arch=dict(
        embed_dims=12, num_layers=1, tokens_mlp_dims=4, channels_mlp_dims=8)))
    with pytest.raises(ValueError, match=r'student: its MlpMixer cannot read images of 32x32 \(.*img_size') as caught:
        fit_projector(mixer, tiny_classifier(), 32)
    assert '\n' not in str(caught.value)
