"""An unknown type or argument is named in one line, with the nearest there is."""
import pytest
from mmengine.registry import DATASETS, MODELS

from mmkd_atsc.errors.messages import describe

HEAD = dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=64)


@pytest.mark.parametrize('registry, config, line', [
    (MODELS, dict(type='mmpretrain.LinearClsHed'),
     "there is no model 'mmpretrain.LinearClsHed'; did you mean 'mmpretrain.LinearClsHead'?"),
    (MODELS, dict(HEAD, num_clases=3), "ClsHead has no argument 'num_clases'; did you mean 'num_classes'?"),
    (MODELS, dict(type='mmkd_atsc.CIFARResNet', depht=8),
     "StagedBackbone has no argument 'depht'; did you mean 'depth'?"),
    (DATASETS, dict(type='mmpretrain.CustomDataset', data_root='.', pipelines=[], split='x'),
     "BaseDataset has no argument 'pipelines'; did you mean 'pipeline'?"),
])
def test_the_nearest_is_named(registry, config, line):
    with pytest.raises((KeyError, TypeError, RuntimeError, AssertionError)) as error:
        registry.build(config)
    assert describe(error.value) == line


@pytest.mark.parametrize('error, line', [
    (KeyError('epoch'), "KeyError: 'epoch'"), (TypeError('a\nb'), 'TypeError: a b'),
    (ValueError('tau=0\n  is no tau'), 'tau=0 is no tau')])
def test_other_messages_are_left_as_they_are(error, line):
    assert describe(error) == line
