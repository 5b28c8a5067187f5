import re

import pytest
import torch
from mmengine.registry import MODELS

import mmkd_atsc.models  # noqa: F401  registers the backbones
from analysis.cifar_networks import classifier
from tests.conftest import ROOT

# Name, parameters and last feature of each network, as the literature has them.
TABLE = re.findall(r'^\| \[(\w+)\]\(\S+\) \| ([\d,]+) \| (\d+)x(\d+)x(\d+) \|',
                   (ROOT / 'configs' / 'teachers' / 'README.md').read_text(), flags=re.M)


@pytest.mark.parametrize('name, parameters, shape', [(name, count, tuple(shape)) for name, count, *shape in TABLE])
def test_a_network_is_the_one_of_the_table(name, parameters, shape):
    config = classifier(name)
    if name.startswith(('mobilenetv2', 'shufflenetv2')):  # the last stage comes before a closing convolution
        config['backbone']['out_indices'] = (-2, -1)
    model = MODELS.build(config).eval()
    assert sum(param.numel() for param in model.parameters()) == int(parameters.replace(',', ''))
    images = torch.rand(2, 3, 32, 32)
    feature, *_ = model.extract_feat(images, stage='backbone')
    assert tuple(feature.shape[1:]) == tuple(map(int, shape)) and model(images).shape == (2, 100)
