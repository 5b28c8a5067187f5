import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import mmkd_atsc.models  # noqa: F401
from mmkd_atsc import cli
from mmkd_atsc.export import student_config
from mmkd_atsc.export.config import takes_rgb
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


@pytest.mark.parametrize('to_rgb', [False, True])
def test_channels_are_those_the_network_learned_from(to_rgb):
    preprocessor = dict(mean=[1.] * 3, std=[2.] * 3, to_rgb=to_rgb)
    assert takes_rgb(student_config(training(pipeline=FILES, data_preprocessor=preprocessor))) == to_rgb
    # CIFAR's arrays are in RGB already: what turns them around gives BGR.
    assert takes_rgb(student_config(training(data_preprocessor=preprocessor))) != to_rgb


def test_data_sets_in_wrappers_are_found():
    config = training(pipeline=FILES)
    config.test_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=config.test_dataloader.dataset)
    assert len(student_config(config).test_dataloader.dataset.pipeline) == len(FILES)


def test_a_data_set_of_unknown_images_needs_their_size():
    with pytest.raises(ValueError, match='nothing in the test data .* --image-size'):
        student_config(training(dataset='Mine'))
    assert student_config(training(dataset='Mine'), 48).test_dataloader.dataset.pipeline[-2].scale == (48, 48)
