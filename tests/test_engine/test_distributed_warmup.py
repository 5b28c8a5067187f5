"""A larger batch warms up from the config's rate; the protocol's batch keeps the protocol's schedule."""
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner

import mmkd_atsc.engine  # noqa: F401


class Half(torch.nn.Linear):

    def param_group_options(self):
        return [(parameter, dict(lr_mult=0.5)) for parameter in self.parameters()]


def rates(processes, batch_size=64, epochs=7):
    """Of the first parameters, which ask for half of the optimizer's rate."""
    wrapper = build_optim_wrapper(torch.nn.Sequential(Half(2, 2), torch.nn.Linear(2, 2)), dict(
        constructor='mmkd_atsc.DistillOptimWrapperConstructor', optimizer=dict(type='SGD', lr=0.1)))
    runner = SimpleNamespace(_train_dataloader=dict(batch_size=batch_size), world_size=processes, param_schedulers=None,
                             logger=SimpleNamespace(info=lambda message: None))
    Runner.scale_lr(runner, wrapper, dict(enable=True, base_batch_size=64))
    scheduler = PARAM_SCHEDULERS.build(
        dict(type='mmkd_atsc.DistributedWarmupLR', by_epoch=True, end=5), default_args=dict(optimizer=wrapper))
    seen = []
    for _ in range(epochs):
        seen.append(wrapper.param_groups[0]['lr'])
        wrapper.step()
        scheduler.step()
    return seen


def test_eight_processes_grow_from_one_processes_rate():
    seen = rates(8)
    assert seen[0] == pytest.approx(0.05) and seen[-1] == pytest.approx(0.4)
    assert all(later >= earlier for earlier, later in zip(seen, seen[1:])) and seen[2] < 0.4


@pytest.mark.parametrize('processes, batch_size', [(1, 64), (8, 8)])
def test_the_protocols_batch_keeps_the_protocols_rate(processes, batch_size):
    assert rates(processes, batch_size) == pytest.approx([0.05] * 7)
