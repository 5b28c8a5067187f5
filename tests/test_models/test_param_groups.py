"""A model that asks for parameter groups is not trained by an optimizer without them."""
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

import mmkd_atsc.engine  # noqa: F401
from mmkd_atsc.models.param_groups import check_optimizer_at_first_step
from tests.test_engine.test_optim import Slow

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
