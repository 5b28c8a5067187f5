"""A larger batch warms up from the config's rate; the protocol's batch keeps the protocol's schedule."""
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner

from mmkd_atsc.engine.distributed_warmup import scale_of


def rates(processes, batch_size=64, epochs=7):
    weight, bias = (torch.zeros(1, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.SGD([dict(params=[weight]), dict(params=[bias], lr=0.1)], lr=0.05)  # bias_lr_mult=2
    runner = SimpleNamespace(_train_dataloader=dict(batch_size=batch_size), world_size=processes, param_schedulers=None,
                             logger=SimpleNamespace(info=lambda message: None))
    Runner.scale_lr(runner, OptimWrapper(optimizer), dict(enable=True, base_batch_size=64))
    scheduler = PARAM_SCHEDULERS.build(
        dict(type='mmkd_atsc.DistributedWarmupLR', by_epoch=True, end=5), default_args=dict(
            optimizer=OptimWrapper(optimizer)))
    seen = []
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    return seen


def test_eight_processes_grow_from_one_processes_rate():
    seen = rates(8)
    assert seen[0] == pytest.approx(0.05) and seen[-1] == pytest.approx(0.4)
    assert all(later >= earlier for earlier, later in zip(seen, seen[1:])) and seen[2] < 0.4


@pytest.mark.parametrize('processes, batch_size', [(1, 64), (8, 8)])
def test_the_protocols_batch_keeps_the_protocols_rate(processes, batch_size):
    assert rates(processes, batch_size) == pytest.approx([0.05] * 7)


def test_a_teacher_at_half_the_rate_is_no_base():
    class Half(torch.nn.Linear):
        def param_group_options(self):
            return [(parameter, dict(lr_mult=0.5)) for parameter in self.parameters()]

    wrapper = build_optim_wrapper(torch.nn.Sequential(Half(2, 2), torch.nn.Linear(2, 2)), dict(
        constructor='mmkd_atsc.DistillOptimWrapperConstructor', optimizer=dict(type='SGD', lr=0.05)))
    assert scale_of(wrapper) == 1
    for group in wrapper.optimizer.param_groups:
        group['lr'] *= 8
    assert scale_of(wrapper) == scale_of(wrapper.optimizer) == 8
