import torch
from mmengine.registry import MODELS

import mmkd_atsc.models  # noqa: F401  registers the backbones
from mmkd_atsc.cifar_networks import linear_classifier
from mmkd_atsc.models.backbones import MobileNetV1


def test_it_has_the_papers_4_2_million_parameters():
    model = MODELS.build(linear_classifier(dict(type='mmkd_atsc.MobileNetV1'), 1024, 1000))
    assert sum(param.numel() for param in model.parameters()) == 4_231_976


def test_its_stages_are_those_of_the_literature():
    features = MobileNetV1(out_indices=(0, 1, 2, 3, 4)).eval()(torch.rand(1, 3, 224, 224))
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (64, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14), (1024, 7, 7)]
    assert all(feature.min() == 0 for feature in features)
