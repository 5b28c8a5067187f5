"""Parameter groups: what a module asks for it gets, nothing else changes, and no optimizer trains without them."""
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

import mmkd_atsc.engine  # noqa: F401
from mmkd_atsc.models.param_groups import check_optimizer_at_first_step


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


OURS = dict(constructor='mmkd_atsc.DistillOptimWrapperConstructor')


def step(model, optimizer=None, scale=1.0, **config):
    optimizer = optimizer or dict(type='SGD', lr=0.1, weight_decay=1e-3)
    wrapper = build_optim_wrapper(model, dict(optimizer=optimizer, **config))
    for group in wrapper.optimizer.param_groups:
        group['lr'] *= scale  # auto_scale_lr
    check_optimizer_at_first_step(model)
    wrapper.update_params(model(torch.ones(1, 2)).sum())
    return wrapper


def network():
    return nn.Sequential(nn.Linear(2, 2), Slow(2, 2))


@pytest.mark.parametrize('config', [
    dict(), dict(optimizer=dict(type='AdamW', lr=0.1)),
    dict(paramwise_cfg=dict(custom_keys={'1': dict(lr_mult=0.01)})),  # the rate alone
    dict(paramwise_cfg=dict(custom_keys={'1': dict(decay_mult=0.0)}))])
def test_an_optimizer_that_ignores_what_is_asked_takes_no_step(config):
    model = network()
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(ValueError, match=r'ignores .* \(lr_mult=0.01, weight_decay=0.0\); write optim_wrapper=dict\('
                                         r"constructor='mmkd_atsc.DistillOptimWrapperConstructor'\)"):
        step(model, **config)
    assert all(torch.equal(own, other) for own, other in zip(model.parameters(), before))


@pytest.mark.parametrize('config', [
    OURS, dict(OURS, scale=8.0), dict(OURS, optimizer=dict(type='AdamW', lr=0.1)),
    dict(paramwise_cfg=dict(custom_keys={'1': dict(lr_mult=0.01, decay_mult=0.0)}))])
def test_any_optimizer_that_has_the_groups_steps_and_a_schedule_is_not_judged_later(config):
    model = network()
    wrapper = step(model, **config)
    wrapper.optimizer.param_groups[-1]['lr'] *= 7
    check_optimizer_at_first_step(model)  # as in each epoch
    wrapper.update_params(model(torch.ones(1, 2)).sum())
