"""An unknown type or argument is named with its place in the config, in one line."""
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, HOOKS, MODELS

from mmkd_atsc.errors.messages import describe

MODEL = dict(type='mmpretrain.ImageClassifier', backbone=dict(type='mmkd_atsc.CIFARResNet', depth=8),
             head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=64))


def with_part(key, part):
    return Config(dict(model=dict(MODEL, **{key: part})))


@pytest.mark.parametrize('config, line', [
    (with_part('head', dict(type='mmpretrain.LinearClsHed')),
     "model.head: there is no model 'mmpretrain.LinearClsHed'; did you mean 'mmpretrain.LinearClsHead'?"),
    (with_part('head', dict(MODEL['head'], num_clases=3)),
     "model.head: LinearClsHead has no argument 'num_clases'; did you mean 'num_classes'?"),
    (with_part('backbone', dict(type='mmkd_atsc.CIFARResNet', depht=8)),
     "model.backbone: CIFARResNet has no argument 'depht'; did you mean 'depth'?"),
])
def test_the_place_is_named(config, line):
    with pytest.raises((KeyError, TypeError, RuntimeError, AssertionError)) as error:
        MODELS.build(config.model)
    assert describe(error.value, config) == line


def test_an_argument_that_a_base_class_refuses_is_found_too():
    config = Config(dict(val_dataloader=dict(dataset=dict(
        type='mmpretrain.CustomDataset', data_root='.', pipelines=[], split='x'))))
    with pytest.raises(TypeError) as error:
        DATASETS.build(config.val_dataloader.dataset)
    assert describe(error.value, config) == ("val_dataloader.dataset: CustomDataset has no argument 'pipelines'; "
                                             "did you mean 'pipeline'?")


def test_several_places_are_counted():
    config = Config(dict(custom_hooks=[dict(type='mmkd_atsc.FiniteLosHook')] * 4))
    with pytest.raises(KeyError) as error:
        HOOKS.build(config.custom_hooks[0])
    assert describe(error.value, config) == ("custom_hooks.0, custom_hooks.1 and 2 more: there is no hook "
                                             "'mmkd_atsc.FiniteLosHook'; did you mean 'mmkd_atsc.FiniteLossHook'?")
    assert describe(error.value).startswith('there is no hook')


@pytest.mark.parametrize('error, line', [
    (KeyError('epoch'), "KeyError: 'epoch'"), (TypeError('a\nb'), 'TypeError: a b'),
    (ValueError('tau=0\n  is no tau'), 'tau=0 is no tau')])
def test_what_is_not_about_a_config_is_left_as_it_is(error, line):
    assert describe(error, Config(MODEL)) == line
