"""One entry, every teacher."""
import pytest
import torch
from mmengine.registry import TASK_UTILS
from torch import nn

import mmkd_atsc  # noqa: F401


def teachers():
    return dict(small=nn.Sequential(nn.Linear(2, 3)), large=nn.Sequential(nn.Linear(2, 8), nn.Linear(8, 3)))


def build(**options):
    return TASK_UTILS.build(dict(type='mmkd_atsc.MultiTeacherRecorder', **options))


@pytest.mark.parametrize('kind', ['ModuleOutputs', 'mmrazor.ModuleInputs'])
def test_each_teachers_own_source_is_recorded(kind):
    networks, images = teachers(), torch.ones(1, 2)
    recorder = build(kind=kind, source=dict(small='0', large='1'))
    recorder.initialize(networks)
    with recorder:
        outputs = {name: network(images) for name, network in networks.items()}
    expected = outputs if 'Outputs' in kind else dict(small=images, large=networks['large'][0](images))
    for name in networks:
        record = recorder.of(name).get_record_data(data_idx=None if 'Outputs' in kind else 0)
        torch.testing.assert_close(record, expected[name])
    recorder.reset_data_buffer()
    assert not any(recorder.of(name).data_buffer for name in networks)


def test_a_source_for_other_teachers_is_refused():
    with pytest.raises(ValueError, match='source is for small, big, the teachers are small, large'):
        build(source=dict(small='0', big='0')).initialize(teachers())
