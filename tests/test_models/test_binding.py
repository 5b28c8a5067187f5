"""Binding finds the projector's options in the networks, and refuses misfits in one line."""
import pytest
import torch
from mmengine.registry import MODELS

from mmkd_atsc.models.binding import bind_student, probe
from mmkd_atsc.models.classifier import split_classifier
from tests.conftest import tiny_classifier

VIT = dict(type='VisionTransformer', img_size=32, patch_size=8,
           arch=dict(embed_dims=12, num_layers=1, num_heads=2, feedforward_channels=24))


def classifier(backbone, head=None, **extra):
    return dict(type='mmpretrain.ImageClassifier', backbone=backbone, head=head, **extra)


def vit(**options):
    return classifier(dict(VIT, **options), dict(type='VisionTransformerClsHead', num_classes=10, in_channels=12))


def bind(student, *teachers, **neck):
    """The student, bound; its own neck and head give way."""
    student = dict(student, neck=dict(type='mmkd_atsc.FeatureProjector', **neck),
                   head=dict(type='mmkd_atsc.SharedClassifierHead'))
    networks = {f'teacher{i}': MODELS.build(teacher) for i, teacher in enumerate(teachers)}
    student = MODELS.build(student)
    bind_student(student, {name: split_classifier(network, name) for name, network in networks.items()},
                 dict.fromkeys(networks, 1 / len(networks)))
    return student, networks


@pytest.mark.parametrize('student, teacher, wanted', [
    (tiny_classifier(4), tiny_classifier(8), dict(in_channels=8, out_channels=16, spatial=True, final_relu=True)),
    (tiny_classifier(4), vit(), dict(in_channels=8, out_channels=12, spatial=False, final_relu=False)),
    (vit(out_type='featmap'), tiny_classifier(8), dict(in_channels=12, out_channels=16, spatial=True, final_relu=True)),
    (tiny_classifier(4), classifier(dict(VIT, out_type='featmap'), dict(type='LinearClsHead', num_classes=10,
     in_channels=12), neck=dict(type='GlobalAveragePooling')),
     dict(in_channels=8, out_channels=12, spatial=True, final_relu=False, pool=2)),
])
def test_the_projection_is_of_the_teachers_kind(student, teacher, wanted):
    bound, networks = bind(student, teacher)
    assert bound.neck.options() == dict(wanted, factor=2)
    images = torch.randn(2, 3, 32, 32)
    projected, feature = bound.eval().extract_feat(images)[-1], networks['teacher0'].eval().backbone(images)[-1]
    assert projected.shape[:2] == feature.shape[:2] and projected.dim() == feature.dim()
    assert (projected.min() >= 0) == (feature.min() >= 0)
    assert bound(images).shape == (2, 10)


def test_networks_and_random_numbers_stay_as_they_are():
    student, teacher = MODELS.build(tiny_classifier()).train(), MODELS.build(tiny_classifier(8)).eval()
    student.backbone.bn1.eval()
    before = [{key: value.clone() for key, value in model.state_dict().items()} for model in (student, teacher)]
    modes = [[module.training for module in model.modules()] for model in (student, teacher)]
    state = torch.get_rng_state()
    probe(student, dict(teacher=split_classifier(teacher)))
    assert torch.equal(torch.get_rng_state(), state)
    for model, values, training in zip((student, teacher), before, modes):
        assert all(torch.equal(values[key], value) for key, value in model.state_dict().items())
        assert [module.training for module in model.modules()] == training


def test_the_image_has_the_size_that_a_network_says_or_the_config():
    mixer = classifier(dict(type='MlpMixer', img_size=48, patch_size=16, arch=dict(
        embed_dims=12, num_layers=1, tokens_mlp_dims=4, channels_mlp_dims=8)))
    assert bind(mixer, vit())[0].neck.in_channels == 12  # its img_size, 48
    levit = classifier(dict(type='LeViT', arch='128s', img_size=96), dict(
        type='LeViTClsHead', num_classes=10, in_channels=384, distillation=False),
        neck=dict(type='GlobalAveragePooling'))
    with pytest.raises(ValueError, match=r'cannot read images of 224x224 \(.*set image_size'):
        bind(levit, tiny_classifier(8))
    assert bind(levit, tiny_classifier(8), image_size=96)[0].neck.in_channels == 384


@pytest.mark.parametrize('student, teacher, words', [
    (vit(), tiny_classifier(), r"student: its VisionTransformer gives no map, but a feature of "
     r"shape \(1, 12\), and the teacher0 a map of shape \(1, 8, 8, 8\); set out_type='featmap'"),
    (vit(out_type='raw'), vit(), r"student: its VisionTransformer \(out_type='raw'\) gives"),
    (tiny_classifier(), vit(out_type='raw'), r"teacher0: its VisionTransformer \(out_type='raw'\) gives"),
    (classifier(dict(type='LeNet5', num_classes=10)), vit(),
     r'student: LeNet5 classifies inside the backbone and gives no feature \(set num_classes=-1\)'),
])
def test_a_misfit_is_refused_in_one_line(student, teacher, words):
    with pytest.raises(ValueError, match=words):
        bind(student, teacher)
