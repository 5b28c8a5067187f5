import argparse
import os

import numpy as np
import pytest
import torch
import torchvision
from mmengine.registry import MODELS

import mmkd_atsc.models  # noqa: F401  registers the backbones
from analysis.cifar_networks import classifier
from model_converters.convert_teacher import ARCHITECTURES, convert, convert_file, rename
from tests.conftest import run_here
from tests.test_tools.literature_networks import NETWORKS, Literature

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope='module')
def resnet14():
    """The weights of a literature ResNet-14, and its logits."""
    net = Literature()
    logits = NETWORKS['resnet14'](net, IMAGES)
    return net.weights, logits


def save(path, content):
    torch.save(content, path)
    return path


def logits_of(config, checkpoint, images=IMAGES):
    model = MODELS.build(config)
    model.load_state_dict(checkpoint['state_dict'], strict=True)
    model.eval()
    with torch.no_grad():
        return model(images)


@pytest.mark.parametrize('arch', NETWORKS)
def test_a_converted_network_gives_the_logits_that_it_gave(arch, tmp_path):
    net = Literature()
    expected = NETWORKS[arch](net, IMAGES)
    assert expected.std() > 0.1, 'logits this small would agree with anything'
    checkpoint = convert(save(tmp_path / 'teacher.pth', dict(model=net.weights)), arch)
    torch.testing.assert_close(logits_of(classifier(arch), checkpoint), expected, rtol=1e-3, atol=1e-4)
    assert checkpoint['meta'] == dict(arch=arch, num_classes=100, source='teacher.pth')


@pytest.mark.parametrize('wrap', [
    lambda weights: dict(model=weights, epoch=240, best_acc=np.float64(79.42), accuracy=np.float32(0.5)),
    lambda weights: dict(opt=argparse.Namespace(model='resnet14', lr_decay_epochs=[150, 180]), model=weights),
    lambda weights: dict(model_state_dict=weights),
    lambda weights: dict(model={key: value.double() for key, value in weights.items()}),
], ids=['numpy_scalars', 'namespace', 'model_state_dict', 'float64'])
def test_every_layout_of_a_checkpoint_is_read(wrap, resnet14, tmp_path):
    weights, expected = resnet14
    # The format of PyTorch before 1.6 in one of the cases: theirs are of that time.
    torch.save(wrap(weights), tmp_path / 'teacher.pth', _use_new_zipfile_serialization='opt' not in wrap(weights))
    checkpoint = convert(tmp_path / 'teacher.pth', 'resnet14')
    torch.testing.assert_close(logits_of(classifier('resnet14'), checkpoint), expected, rtol=1e-3, atol=1e-4)


def test_other_numbers_of_classes(resnet14, tmp_path):
    weights = dict(resnet14[0], **{'fc.weight': torch.randn(10, 64), 'fc.bias': torch.randn(10)})
    source = save(tmp_path / 'teacher.pth', weights)
    assert convert(source, 'resnet14', num_classes=10)['state_dict']['head.fc.bias'].shape == (10, )
    with pytest.raises(ValueError, match=r'head.fc.weight \(10, 64\) for \(100, 64\)'):
        convert(source, 'resnet14')


@pytest.mark.parametrize('arch', ['resnet18', 'mobilenet_v2'])
def test_torchvisions_networks_give_the_logits_that_they_gave(arch, tmp_path):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, arch)(num_classes=7)
    theirs.train()(torch.rand(4, 3, 64, 64))  # running statistics other than 0 and 1
    theirs.eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(images)
    checkpoint = convert(save(tmp_path / 'theirs.pth', theirs.state_dict()), f'torchvision/{arch}', num_classes=7)
    config = ARCHITECTURES[f'torchvision/{arch}'].config(7)
    torch.testing.assert_close(logits_of(config, checkpoint, images), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('arch', ['resnet50', 'resnext50_32x4d', 'vgg11_bn'])
@pytest.mark.filterwarnings('ignore:Unnecessary conv bias')
def test_torchvisions_names_and_shapes_become_mmpretrains(arch):
    with torch.device('meta'):
        theirs = getattr(torchvision.models, arch)().state_dict()
    architecture = ARCHITECTURES[f'torchvision/{arch}']
    renamed = rename(theirs, architecture.rules)
    ours = MODELS.build(architecture.config(1000)).state_dict()
    # The same order too: neighbours of one shape cannot have changed places.
    assert [(key, value.shape) for key, value in renamed.items()] == [(key, v.shape) for key, v in ours.items()]


@pytest.mark.parametrize('arch, words', [
    ('resnet20', ['does not fit resnet20 with 100 classes', 'missing (backbone.layer1.2.conv1.weight, ']),
    ('resnet15', ["arch='resnet15' is not one of", "did you mean 'resnet"]),
])
def test_a_wrong_arch_is_refused_with_the_keys(arch, words, resnet14, tmp_path):
    source = save(tmp_path / 'teacher.pth', dict(model=resnet14[0]))
    with pytest.raises(ValueError) as caught:
        convert_file(source, tmp_path / 'out.pth', arch)
    message = str(caught.value)
    assert all(word in message for word in words) and '\n' not in message, message
    assert os.listdir(tmp_path) == ['teacher.pth']


def test_the_source_is_not_written_over(resnet14, tmp_path):
    source = save(tmp_path / 'teacher.pth', dict(model=resnet14[0]))
    before = source.read_bytes()
    with pytest.raises(ValueError, match='teacher.pth: is the source itself'):
        convert_file(source, tmp_path / '.' / 'teacher.pth', 'resnet14')
    with pytest.raises(ValueError, match='is a folder'):
        convert_file(source, tmp_path, 'resnet14')
    assert source.read_bytes() == before


def test_the_tool_from_another_folder(resnet14, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / 'teacher.pth', dict(model=resnet14[0]))
    tool = 'model_converters/convert_teacher.py'
    run_here(tool, 'teacher.pth', 'new/ours.pth', '--arch', 'resnet14')
    assert 'wrote new/ours.pth: resnet14' in capsys.readouterr().out
    checkpoint = torch.load(tmp_path / 'new' / 'ours.pth', weights_only=True)
    torch.testing.assert_close(logits_of(classifier('resnet14'), checkpoint), resnet14[1], rtol=1e-3, atol=1e-4)
    assert os.listdir(tmp_path / 'new') == ['ours.pth']
