"""timm's networks teach with timm's weights and normalisation, and are split by timm's interface."""
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from mmkd_atsc.export.config import student_model
from mmkd_atsc.export.student import logits_of, student_weights
from mmkd_atsc.models.classifier import last_feature, split_classifier
from mmkd_atsc.models.teacher import Teacher
from mmkd_atsc.models.timm_networks import as_image_classifier
from tests.conftest import tiny_classifier

from .distillation import train

timm = pytest.importorskip('timm')
STUDENT = SimpleNamespace(mean=torch.tensor([129.3, 124.1, 112.4]), std=torch.full((3, ), 64.0), to_rgb=False)


def network(name='test_resnet', **options):
    return dict(type='mmpretrain.TimmClassifier', model_name=name, num_classes=10, **options)


@pytest.mark.parametrize('name, dims', [('test_resnet', 4), ('resnetv2_18', 4), ('test_vit', 2), ('test_mambaout', 2)])
def test_encoder_and_classifier_together_are_the_network(name, dims):
    whole = MODELS.build(network(name)).eval()
    size, pixels = 160 if name == 'test_vit' else 64, torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, size, size, generator=pixels)
    expected, owned = whole(images), {parameter.data_ptr() for parameter in whole.parameters()}
    whole.init_weights()  # a runner does it, and must not touch pretrained weights
    model = as_image_classifier(whole, 'teacher').eval()
    encoder, classifier, _ = split_classifier(model)
    feature = last_feature(encoder(images))
    assert feature.dim() == dims and feature.shape[1] == classifier.head.in_channels
    torch.testing.assert_close(classifier(feature), expected)
    torch.testing.assert_close(model(images, mode='tensor'), expected)
    parts = [parameter.data_ptr() for part in (encoder, classifier) for parameter in part.parameters()]
    assert len(parts) == len(owned) and set(parts) == owned  # its own, each in one part


@pytest.mark.parametrize('backbone', [tiny_classifier(4)['backbone'], dict(
    type='TIMMBackbone', model_name='test_vit', img_size=32, features_only=True, out_indices=[-1])])
def test_a_student_of_timms_teacher_leaves_alone(backbone):
    student = dict(type='mmpretrain.ImageClassifier', backbone=backbone, neck=dict(type='mmkd_atsc.FeatureProjector'),
                   head=dict(type='mmkd_atsc.SharedClassifierHead'))
    config = Config(dict(model=dict(type='mmkd_atsc.AdaptiveTeacherDistill', architecture=student, teacher=network(),
                                    allow_random_teacher=True)))
    model = MODELS.build(config.model)
    train(model, 2)
    deployed = student_model(config, model)
    assert 'LinearClsHead' in str(deployed) and 'TimmClassifier' not in str(deployed)
    alone, images = MODELS.build(deployed).eval(), torch.randn(2, 3, 32, 32)
    alone.load_state_dict(student_weights(model.student))
    torch.testing.assert_close(logits_of(alone, images), logits_of(model.student.eval(), images))


@pytest.mark.parametrize('student, flips', [
    (STUDENT, False), (SimpleNamespace(mean=STUDENT.mean.flip(0), std=STUDENT.std, to_rgb=False), True),
    (SimpleNamespace(mean=STUDENT.mean, std=STUDENT.std, to_rgb=True), False)], ids=['arrays', 'bgr', 'rgb'])
def test_it_sees_images_as_timm_normalises_them(student, flips):
    teacher = Teacher(network(), student_preprocessor=student, allow_random=True)
    pixels = torch.randint(0, 256, (1, 3, 8, 8)).float()  # as the student's network sees the channels
    images = (pixels - student.mean.view(3, 1, 1)) / student.std.view(3, 1, 1)
    rgb = pixels.flip(1) if flips else pixels
    torch.testing.assert_close(teacher.renormalize(images), (rgb / 255 - 0.5) / 0.5)  # test_resnet's mean and std


@pytest.mark.parametrize('prefix, suffix', [('', 'safetensors'), ('model.', 'pth')])
def test_it_reads_a_file_of_timm_and_refuses_another_networks(prefix, suffix, tmp_path):
    source, path = timm.create_model('test_resnet', num_classes=10), str(tmp_path / f'weights.{suffix}')
    weights = {f'{prefix}{key}': value for key, value in source.state_dict().items()}
    safetensors.torch.save_file(weights, path) if suffix == 'safetensors' else torch.save(weights, path)
    teacher = Teacher(network(pretrained=True), path)  # the file goes before the hub
    assert teacher.fingerprint.any() and all(
        torch.equal(value, teacher.model.model.state_dict()[key]) for key, value in source.state_dict().items())
    with pytest.raises(ValueError, match=rf'weights.{suffix} does not fit teacher: \d+ missing'):
        Teacher(network('test_vit'), path)


def test_the_hubs_weights_count_where_they_are_all_there(monkeypatch):
    from timm.models import _builder
    published = timm.create_model('test_resnet').state_dict()
    monkeypatch.setattr(_builder, 'load_pretrained', lambda model, **kwargs: model.load_state_dict(published))
    teacher = Teacher(network(pretrained=True) | dict(num_classes=1000))
    assert teacher.fingerprint.any() and teacher.origin == 'pretrained=True'
    with pytest.raises(ValueError, match='teacher: pretrained=True gives no weights for a classifier of 10 classes'):
        monkeypatch.setattr(_builder, 'load_pretrained', lambda model, **kwargs: None)
        Teacher(network(pretrained=True))

    def no_network(model, **kwargs):
        raise OSError('no answer\nfrom the hub')

    monkeypatch.setattr(_builder, 'load_pretrained', no_network)
    with pytest.raises(ValueError, match=r'weights could not be fetched \(no answer\); give a file .* teacher_ckpt'):
        Teacher(network(pretrained=True))
