import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import mmkd_atsc.models  # noqa: F401
from mmkd_atsc import cli
from mmkd_atsc.export import student_config
from mmkd_atsc.export.config import own_shared_parts
from mmkd_atsc.export.images import configured_image_size, evaluated_dataset, takes_rgb
from mmkd_atsc.models.heads import SharedClassifierHead
from mmkd_atsc.registry import MODELS as OUR_MODELS
from tests.conftest import ROOT, tiny_classifier

CONFIGS = sorted(path for path in (ROOT / 'configs').glob('*/*.py') if path.parent.name != '_base_')
FILES = [dict(type='mmpretrain.LoadImageFromFile'), dict(type='mmpretrain.ResizeEdge', scale=256),
         dict(type='CenterCrop', crop_size=224), dict(type='PackInputs')]


def training(pipeline=None, dataset='CIFAR100', student=None, **settings):
    loader = dict(batch_size=7, dataset=dict(type=dataset, pipeline=pipeline or [dict(type='PackInputs')]))
    model = dict(type='mmkd_atsc.MultiTeacherDistill', architecture=student or tiny_classifier())
    return Config(dict(model=model, test_dataloader=loader, **settings))


def keys(value):
    if isinstance(value, dict):
        yield from value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
        yield from keys(inner)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_each_config_of_the_repository_gives_a_network_that_is_whole_and_alone(path):
    student = student_config(cli.load_config(str(path)))
    training_only = {'teacher', 'distiller', 'architecture', 'train_cfg', 'cfg_path', '_scope_'}
    assert not training_only & set(keys(student.to_dict()))
    # On no device it costs nothing; MMPretrain's ResNet computes with values.
    device = torch.device('cpu' if 'imagenet' in path.stem else 'meta')
    with DefaultScope.overwrite_default_scope('mmpretrain'), device:
        network = MODELS.build(student.model)
        answer = network.head(network.extract_feat(torch.empty(2, 3, 64, 64)))
    assert answer.shape == (2, student.model.data_preprocessor.num_classes)


def test_the_normalisation_is_the_one_that_training_used():
    def mean(**settings):
        student = tiny_classifier(data_preprocessor=dict(mean=[3.] * 3, std=[1.] * 3))
        config = training(student=student)
        config.model.update(settings.pop('model', {}))
        config.merge_from_dict(settings)
        return student_config(config).model.data_preprocessor.mean[0]

    whole, model = dict(mean=[1.] * 3, std=[1.] * 3), dict(data_preprocessor=dict(mean=[2.] * 3, std=[1.] * 3))
    assert mean(data_preprocessor=whole, model=model) == 2, "the model's own is what the runner gives it"
    assert mean(data_preprocessor=whole) == 1, "the config's comes before the student's"
    assert mean() == 3


def test_what_is_for_training_stays_behind():
    augments = dict(augments=[dict(type='Mixup', alpha=0.2)])
    student = tiny_classifier(train_cfg=augments, init_cfg=dict(type='Pretrained', checkpoint='https://x/y.pth'))
    student['backbone']['init_cfg'] = [dict(type='Kaiming', layer='Conv2d'), dict(type='Pretrained', checkpoint='a')]
    model = student_config(training(student=student, data_preprocessor=dict(
        type='mmkd_atsc.Augmenting', mean=[1.] * 3, std=[2.] * 3, to_rgb=True, to_onehot=True, num_classes=10,
        batch_augments=augments, crop=dict(padding=4)))).model
    assert model.data_preprocessor == dict(type='ClsDataPreprocessor', mean=[1.] * 3, std=[2.] * 3, to_rgb=True,
                                           num_classes=10)
    assert not {'train_cfg', 'init_cfg'} & set(keys(model.to_dict()))


def test_a_pipeline_of_files_is_kept_and_its_reader_goes_by_the_name_that_the_inferencer_knows():
    student = student_config(training(pipeline=FILES, dataset='ImageNet'))
    pipeline = student.test_dataloader.dataset.pipeline
    assert [transform.type for transform in pipeline] == ['LoadImageFromFile', 'ResizeEdge', 'CenterCrop', 'PackInputs']
    assert student.test_dataloader.dataset.type == 'ImageNet' and student.test_dataloader.batch_size == 7
    assert not takes_rgb(student)


@pytest.mark.parametrize('reader', ['mmpretrain.datasets.LoadImageFromFile', 'mmcv.transforms.LoadImageFromFile',
                                    LoadImageFromFile])
def test_the_reader_is_known_by_its_path_and_as_a_class(reader):
    student = student_config(training([dict(type=reader), *FILES[1:]], 'ImageNet'))
    pipeline = student.test_dataloader.dataset.pipeline
    assert [step.type for step in pipeline] == ['LoadImageFromFile', 'ResizeEdge', 'CenterCrop', 'PackInputs']


@pytest.mark.parametrize('steps, flipped', [
    ([dict(type='NumpyToPIL')], False),
    ([dict(type='NumpyToPIL', to_rgb=True)], True),
    ([dict(type='mmpretrain.ToPIL', to_rgb=True), dict(type='mmpretrain.datasets.PILToNumpy', to_bgr=True)], False),
    ([dict(type='NumpyToPIL', to_rgb=True), dict(type='PILToNumpy', to_bgr=False)], True),
    ([dict(type='Normalize', mean=[0.] * 3, std=[1.] * 3)], True),
])
def test_each_transform_that_turns_the_channels_around_counts(steps, flipped):
    for to_rgb in (False, True):
        preprocessor = dict(mean=[1.] * 3, std=[2.] * 3, to_rgb=to_rgb)
        student = student_config(training([FILES[0], *steps, *FILES[1:]], 'Mine', data_preprocessor=preprocessor))
        assert takes_rgb(student) == (flipped != to_rgb)


@pytest.mark.parametrize('to_rgb', [False, True])
def test_channels_are_those_the_network_learned_from(to_rgb):
    preprocessor = dict(mean=[1.] * 3, std=[2.] * 3, to_rgb=to_rgb)
    assert takes_rgb(student_config(training(pipeline=FILES, data_preprocessor=preprocessor))) == to_rgb
    # CIFAR's arrays are in RGB already: what turns them around gives BGR.
    assert takes_rgb(student_config(training(data_preprocessor=preprocessor))) != to_rgb


@pytest.mark.parametrize('wrap', [
    lambda dataset: dict(type='RepeatDataset', times=2, dataset=dataset),
    lambda dataset: dict(type='ConcatDataset', datasets=[dataset, dict(dataset, ann_file='more.txt')]),
    lambda dataset: dict(type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[dataset]))])
def test_data_sets_in_wrappers_are_found(wrap):
    config = training(pipeline=FILES)
    config.test_dataloader.dataset = wrap(config.test_dataloader.dataset)
    assert len(student_config(config).test_dataloader.dataset.pipeline) == len(FILES)


@pytest.mark.parametrize('pipeline, size', [(None, None), (None, 48), (
    [dict(type='LoadTiff'), dict(type='Resize', scale=224), dict(type='PackInputs')], None), (
    [dict(type='mine.LoadImageFromFile'), dict(type='PackInputs')], 48)])
def test_test_data_that_is_read_in_a_way_of_its_own_is_refused(pipeline, size):
    with pytest.raises(ValueError, match=r'^the test data \(Mine\) is not read by LoadImageFromFile, .* give the'):
        student_config(training(pipeline, dataset='Mine'), size)


@pytest.mark.parametrize('dataset, side, steps', [
    ('mmpretrain.datasets.CIFAR10', 32, ['NumpyToPIL', 'PILToNumpy']),
    ('mmkd_atsc.BatchedCIFAR100', 32, ['NumpyToPIL', 'PILToNumpy']),
    ('FashionMNIST', 28, ['NumpyToPIL', 'torchvision/Grayscale', 'PILToNumpy'])])
def test_files_become_what_a_data_set_of_arrays_holds_and_then_go_its_own_way(dataset, side, steps):
    own = [dict(type='Resize', scale=(96, 64)), dict(type='PackInputs')]
    student = student_config(training(own, dataset))
    pipeline = evaluated_dataset(student).pipeline
    assert [step.type for step in pipeline[:-3]] == ['LoadImageFromFile', *steps]
    assert pipeline[-3] == dict(type='Resize', scale=(side, side)) and pipeline[-2:] == own
    assert student_config(training([], dataset), (20, 40)).test_dataloader.dataset.pipeline[-2:] == [
        dict(type='Resize', scale=(40, 20)), dict(type='PackInputs')]


@pytest.mark.parametrize('steps, size', [
    ([dict(type='Resize', scale=(64, 32))], (32, 64)),
    ([dict(type='mmcv.transforms.CenterCrop', crop_size=(64, 32))], (32, 64)),
    ([dict(type='RandomCrop', crop_size=(64, 32))], (64, 32)),
    ([dict(type='torchvision/CenterCrop', size=(64, 32))], (64, 32)),
    ([dict(type='CenterCrop', crop_size=48), dict(type='PILToNumpy')], (48, 48)),
    ([dict(type='Resize', scale=(64, 64), keep_ratio=True), dict(type='Pad', size=(64, 32))], (32, 64)),
    ([dict(type='ResizeEdge', scale=64)], None),
])
def test_the_size_is_a_height_and_a_width(steps, size):
    assert configured_image_size(dict(type='ImageNet', pipeline=[FILES[0], *steps, FILES[-1]])) == size


@pytest.mark.parametrize('size', ['abc', '3x', '1x2x3', (1, 2, 3), ()])
def test_what_is_no_size_is_refused_with_what_is(size):
    with pytest.raises(ValueError, match=r'^image_size=.* must be a side, or a height and a width \(as text: 32x64\)$'):
        student_config(training(), size)


def test_a_subclass_of_a_head_owns_its_classifier_too(monkeypatch):
    class OwnHead(SharedClassifierHead):
        pass

    monkeypatch.setitem(OUR_MODELS._module_dict, 'OwnHead', OwnHead)
    student = dict(tiny_classifier(4), neck=dict(type='mmkd_atsc.FeatureProjector'),
                   head=dict(type='mmkd_atsc.OwnHead'))
    own_shared_parts(student, dict(architecture=student, teacher=tiny_classifier(16)))
    assert student['head']['classifier']['head']['in_channels'] == student['neck']['out_channels'] == 32


def test_what_imports_the_users_own_modules_goes_along(tmp_path):
    def named(name, network):
        Config(dict(model=network, custom_imports=dict(imports=[name], allow_failed_imports=False))).dump(
            tmp_path / f'{name}.py')
        return dict(cfg_path=str(tmp_path / f'{name}.py'))

    student, teacher = named('json', tiny_classifier()), named('csv', tiny_classifier(16))
    config = training(student=student, custom_imports=dict(imports=['glob', 'mmkd_atsc.models', 'json']))
    config.model.teacher = teacher
    assert student_config(config).custom_imports == dict(imports=['glob', 'json'], allow_failed_imports=False)
    config.model.architecture.head = dict(_delete_=True, type='mmkd_atsc.SharedClassifierHead')
    assert student_config(config).custom_imports.imports == ['glob', 'json', 'csv'], 'its classifier goes along'
    assert 'custom_imports' not in student_config(training())
