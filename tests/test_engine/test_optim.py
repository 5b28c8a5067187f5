"""Parameter groups: what a module asks for it gets, and nothing else changes."""
import pytest
from mmengine.optim import build_optim_wrapper
from torch import nn

import mmkd_atsc.engine  # noqa: F401


class Slow(nn.Linear):
    """A layer that asks for its own learning rate and weight decay."""

    def param_group_options(self):
        return [(parameter, dict(lr_mult=0.01, weight_decay=0.0)) for parameter in self.parameters()]


def build(model, **config):
    optimizer = dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-3)
    return build_optim_wrapper(model, dict(
        constructor='mmkd_atsc.DistillOptimWrapperConstructor', optimizer=optimizer, **config)).optimizer


def test_without_wishes_it_is_mmengines_constructor():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    ours = build(model)
    theirs = build_optim_wrapper(model, dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-3)))
    assert ours.param_groups == theirs.optimizer.param_groups


def test_paramwise_rules_hold_beside_wishes_in_few_groups():
    model = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for _ in range(8)), Slow(2, 2))
    groups = build(model, paramwise_cfg=dict(norm_decay_mult=0.0)).param_groups
    assert len(groups) == 3
    decays = {id(p): g['weight_decay'] for g in groups for p in g['params']}
    assert decays[id(model[0][1].weight)] == 0.0 and decays[id(model[0][0].weight)] == 1e-3


def test_layer_wise_rates_need_a_backbone_that_counts_its_layers():
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match='backbones that number their layers.*Sequential does not'):
        build(model, paramwise_cfg=dict(layer_decay_rate=0.5))
