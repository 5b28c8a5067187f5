from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

import mmkd_atsc.models  # noqa: F401  registers the backbones
from mmkd_atsc.cifar_networks import CIFAR_NETWORKS, classifier, linear_classifier

BASE_MODELS = Path(__file__).parents[1] / 'configs' / '_base_' / 'models'
every_network = pytest.mark.parametrize('name', CIFAR_NETWORKS)


@every_network
def test_a_network_is_the_one_of_the_literature(name):
    network = CIFAR_NETWORKS[name]
    model = MODELS.build(classifier(name)).eval()
    assert sum(param.numel() for param in model.parameters()) == network.parameters

    seen = {}
    for module_name, module in model.backbone.named_modules():
        module.register_forward_hook(lambda _, __, output, key=module_name: seen.update({key: output}))
    logits = model(torch.rand(2, 3, 32, 32))
    assert logits.shape == (2, 100)
    assert seen[''][0].shape[1] == network.head_channels
    closing = [key for key in seen if key.startswith('conv2')]
    before_closing = list(seen)[list(seen).index(closing[0]) - 1] if closing else ''
    last_stage = seen[before_closing] if closing else seen[''][0]
    assert tuple(last_stage.shape[1:]) == network.feature_shape


@pytest.mark.parametrize('name, options', [('mobilenetv2', dict(with_last_conv=False)), ('resnet20', {})])
def test_the_feature_shape_is_what_a_student_without_closing_convolution_gives(name, options):
    network = CIFAR_NETWORKS[name]
    feature, = MODELS.build(dict(network.backbone, **options))(torch.rand(2, 3, 32, 32))
    assert tuple(feature.shape[1:]) == network.feature_shape


@every_network
def test_the_base_config_says_the_same_as_the_table(name):
    config = Config.fromfile(BASE_MODELS / f'{name}.py')
    assert config.to_dict() == {name: classifier(name)}


def test_the_base_config_of_mobilenet_for_imagenet():
    config = Config.fromfile(BASE_MODELS / 'mobilenetv1_imagenet.py')
    expected = linear_classifier(dict(type='mmkd_atsc.MobileNetV1', widen_factor=1.0), 1024, 1000)
    assert config.to_dict() == dict(mobilenetv1=expected)


def test_an_unknown_network_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'wrn_40_2'") as caught:
        classifier('wrn-40-2')
    assert '\n' not in str(caught.value)
