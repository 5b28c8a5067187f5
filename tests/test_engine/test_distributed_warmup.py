"""Several processes warm up from one process's rate; one process keeps the protocol's schedule."""
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from mmkd_atsc.engine import distributed_warmup


def rates(processes, monkeypatch, epochs=7):
    monkeypatch.setattr(distributed_warmup, 'get_world_size', lambda: processes)
    # auto_scale_lr has multiplied the rate by the number of processes before schedulers are built
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.05 * processes)
    scheduler = PARAM_SCHEDULERS.build(
        dict(type='mmkd_atsc.DistributedWarmupLR', by_epoch=True, end=5), default_args=dict(
            optimizer=OptimWrapper(optimizer)))
    seen = []
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    return seen


def test_eight_processes_grow_from_one_processes_rate(monkeypatch):
    seen = rates(8, monkeypatch)
    assert seen[0] == pytest.approx(0.05) and seen[-1] == pytest.approx(0.4)
    assert all(later >= earlier for earlier, later in zip(seen, seen[1:])) and seen[2] < 0.4


def test_one_process_is_left_alone(monkeypatch):
    assert rates(1, monkeypatch) == pytest.approx([0.05] * 7)
