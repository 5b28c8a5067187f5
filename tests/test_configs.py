"""Every config loads and builds; the teachers' follow the literature's protocol; the lists of them are complete."""
import os
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.registry import MODELS, init_default_scope

from analysis.cifar_networks import CIFAR_NETWORKS, classifier
from tests.conftest import ROOT

CONFIGS = ROOT / 'configs'
ALL = sorted(str(path) for path in (path.relative_to(CONFIGS) for path in CONFIGS.rglob('*.py'))
             if '_base_' not in path.parts)
TEACHERS = CONFIGS / 'teachers'
DEPTHWISE = ('mobilenet', 'shufflenet')

# The accuracies that the literature's READMEs give for networks trained alone.
PUBLISHED = dict(resnet20=69.06, resnet32=71.14, resnet56=72.34, resnet110=74.31, resnet8x4=72.50, resnet32x4=79.42,
                 wrn_16_2=73.26, wrn_40_1=71.98, wrn_40_2=75.61, vgg8=70.36, vgg13=74.64, mobilenetv2=64.60,
                 shufflenetv1=70.50, shufflenetv2x1_5=74.15)


def forget_zoo_weights(teacher):
    """Nothing is downloaded here: teachers are built without their published weights."""
    if isinstance(teacher, dict):
        teacher.pop('pretrained', None)
    if not isinstance(teacher, str):
        for inner in teacher.values() if isinstance(teacher, dict) else teacher:
            if isinstance(inner, (dict, list)):
                forget_zoo_weights(inner)


@pytest.mark.parametrize('path', ALL)
def test_a_config_loads_and_builds(path):
    config = Config.fromfile(CONFIGS / path)
    if 'teacher' in config.model:
        if config.model.type.startswith('mmkd_atsc.'):  # MMRazor's own algorithm accepts any teacher
            config.model.update(allow_random_teacher=True, teacher_ckpt=None)
        forget_zoo_weights(config.model.teacher)
    init_default_scope(config.default_scope)
    MODELS.build(config.model)
    for setting in ('train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator', 'train_cfg', 'val_cfg',
                    'test_cfg', 'optim_wrapper', 'default_hooks', 'randomness'):
        assert config.get(setting) is not None, f'{path} defines no {setting}'
    if path.startswith('teachers/'):
        name = path[len('teachers/'):-len('_cifar100.py')]
        assert config.model.backbone == CIFAR_NETWORKS[name]['backbone']


@pytest.mark.parametrize('name', CIFAR_NETWORKS)
def test_a_teacher_is_trained_by_the_protocol(name):
    config = Config.fromfile(TEACHERS / f'{name}_cifar100.py')
    rate = 0.01 if name.startswith(DEPTHWISE) else 0.05
    assert config.optim_wrapper.optimizer == dict(type='SGD', lr=rate, momentum=0.9, weight_decay=5e-4)
    assert config.param_scheduler == dict(type='MultiStepLR', by_epoch=True, milestones=[150, 180, 210], gamma=0.1)
    assert config.train_cfg.max_epochs == 240 and config.train_dataloader.batch_size == 64
    assert config.auto_scale_lr.base_batch_size == 64
    assert [step.type.split('.')[-1] for step in config.train_dataloader.dataset.pipeline] == [
        'RandomCrop', 'RandomFlip', 'PackInputs']
    assert config.train_dataloader.dataset.pipeline[0].padding == 4
    assert config.data_preprocessor.mean == pytest.approx([255 * m for m in (0.5071, 0.4867, 0.4408)])
    assert config.data_preprocessor.std == pytest.approx([255 * s for s in (0.2675, 0.2565, 0.2761)])


def test_the_table_of_networks_agrees_with_configs_and_metafile():
    rows = re.findall(r'^\| \[(\w+)\]\((\S+)\) \| ([\d,]+) \| \d+x\d+x\d+ \| ([\d.]+) \| ([\d.]*) *\|$',
                      (TEACHERS / 'README.md').read_text(), flags=re.M)
    assert sorted(row[0] for row in rows) == sorted(CIFAR_NETWORKS)
    models = load(TEACHERS / 'metafile.yml')['Models']
    assert {model['Name']: model['Metadata']['Parameters'] for model in models} == {
        f'{name}_cifar100': int(parameters.replace(',', '')) for name, _, parameters, *_ in rows}
    for name, path, _, rate, published in rows:
        assert (TEACHERS / path).is_file() and path == f'{name}_cifar100.py'
        assert float(rate) == Config.fromfile(TEACHERS / path).optim_wrapper.optimizer.lr
        assert published == (f'{PUBLISHED[name]:.2f}' if name in PUBLISHED else '')


def test_each_metafile_is_on_the_list_and_true():
    listed = load(ROOT / 'model-index.yml')['Import']
    assert sorted(listed) == sorted(str(path.relative_to(ROOT)) for path in CONFIGS.rglob('metafile.yml'))
    for path in listed:
        metafile = load(ROOT / path)
        collections = {collection['Name']: collection for collection in metafile['Collections']}
        for collection in collections.values():
            assert (ROOT / collection['README']).is_file()
        for model in metafile['Models']:
            assert (ROOT / model['Config']).is_file() and model['In Collection'] in collections
            assert model['Name'].endswith(os.path.splitext(os.path.basename(model['Config']))[0])
    names = [model['Name'] for path in listed for model in load(ROOT / path)['Models']]
    assert len(set(names)) == len(names)  # methods share pairs, so their names begin with the method


# Name, parameters and last feature of each network, as the literature has them.
TABLE = re.findall(r'^\| \[(\w+)\]\(\S+\) \| ([\d,]+) \| (\d+)x(\d+)x(\d+) \|',
                   (TEACHERS / 'README.md').read_text(), flags=re.M)


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
