import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

import tests.tiny_cifar  # noqa: F401
from mmkd_atsc import cli
from mmkd_atsc.export import student_config
from mmkd_atsc.export.images import deployed_image_size, evaluated_dataset
from tests.conftest import ROOT, tiny_classifier

FOLDERS = ('aekt', 'atsc', 'demo', 'mix')  # the others have the same networks
CONFIGS = [path for folder in FOLDERS for path in sorted((ROOT / 'configs' / folder).glob('*.py'))]
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
        type='mmkd_atsc.BatchedDataPreprocessor', mean=[1.] * 3, std=[2.] * 3, to_rgb=True, to_onehot=True,
        num_classes=10, batch_augments=augments, augment_seed=4))).model
    assert model.data_preprocessor == dict(type='ClsDataPreprocessor', mean=[1.] * 3, std=[2.] * 3, to_rgb=True,
                                           num_classes=10)
    assert not {'train_cfg', 'init_cfg'} & set(keys(model.to_dict()))


@pytest.mark.parametrize('reader', ['mmpretrain.LoadImageFromFile', LoadImageFromFile])
def test_a_pipeline_of_files_is_kept_and_its_reader_goes_by_the_name_that_the_inferencer_knows(reader):
    student = student_config(training([dict(type=reader), *FILES[1:]], 'ImageNet'))
    assert student.test_dataloader.dataset.pipeline == [dict(type='LoadImageFromFile'), *FILES[1:]]
    assert student.test_dataloader.dataset.type == 'ImageNet' and student.test_dataloader.batch_size == 7
    assert 'val_dataloader' not in student


@pytest.mark.parametrize('reader', ['LoadTiff', 'mine.LoadImageFromFile'])
def test_test_data_that_is_read_in_a_way_of_its_own_is_refused(reader):
    with pytest.raises(ValueError, match=r'^the test data \(Mine\) is not read by LoadImageFromFile: give the config'):
        student_config(training([dict(type=reader), dict(type='PackInputs')], dataset='Mine'), 48)


@pytest.mark.parametrize('dataset, side, steps', [
    ('mmpretrain.datasets.CIFAR10', 32, ['NumpyToPIL', 'PILToNumpy']),
    ('FashionMNIST', 28, ['NumpyToPIL', 'torchvision/Grayscale', 'PILToNumpy'])])
def test_files_become_what_a_data_set_of_arrays_holds_and_then_go_its_own_way(dataset, side, steps):
    own = [dict(type='Resize', scale=(96, 64)), dict(type='PackInputs')]
    student = student_config(training(own, dataset))
    pipeline = evaluated_dataset(student).pipeline
    assert [step.type for step in pipeline[:-3]] == ['LoadImageFromFile', *steps]
    assert pipeline[-3] == dict(type='Resize', scale=(side, side)) and pipeline[-2:] == own
    assert student.val_dataloader.dataset == dict(type=dataset, pipeline=own), 'what tools/test.py scores'
    assert student_config(training([], dataset), (20, 40)).test_dataloader.dataset.pipeline[-2:] == [
        dict(type='Resize', scale=(40, 20)), dict(type='PackInputs')]


def test_data_that_is_fetched_in_batches_is_scored_image_by_image():
    student = student_config(training([dict(type='mmpretrain.PackInputs')], 'mmkd_atsc.TinyCIFAR100'))
    student.val_dataloader.num_workers = 0
    batch = next(iter(Runner.build_dataloader(student.val_dataloader)))
    assert batch['inputs'].shape == (7, 3, 32, 32) and len(batch['data_samples']) == 7
    assert "type='tests.tiny_cifar.TinyCIFAR100'" in student.pretty_text, 'found without custom_imports'


@pytest.mark.parametrize('steps, size', [
    ([dict(type='Resize', scale=(64, 32))], (32, 64)),
    ([dict(type='NumpyToPIL'), dict(type='torchvision/CenterCrop', size=(64, 32)), dict(type='PILToNumpy')], (64, 32)),
    ([dict(type='Resize', scale=(64, 64), keep_ratio=True), dict(type='Pad', size=(64, 64))], (64, 64))])
def test_the_size_is_that_of_what_the_pipeline_makes(steps, size):
    assert deployed_image_size(student_config(training([FILES[0], *steps, FILES[-1]], 'ImageNet'))) == size


def test_a_size_that_depends_on_the_file_must_be_given():
    student = student_config(training([*FILES[:2], FILES[-1]], 'ImageNet'))
    with pytest.raises(ValueError, match='says how large an image is; give --image-size'):
        deployed_image_size(student)
