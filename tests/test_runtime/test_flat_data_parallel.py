"""Gradients are averaged after a step, in pieces; that training is the same tests/test_distributed.py shows."""
import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmkd_atsc.runtime import FlatDataParallel, flat_data_parallel
from tests.conftest import run_command, weights


def test_another_optimizer_wrapper_is_refused(monkeypatch):
    monkeypatch.setattr(torch.distributed, 'broadcast', lambda *args: None)
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="needs optim_wrapper=dict.type='mmkd_atsc.FastOptimWrapper'.*OptimWrapper"):
        FlatDataParallel(layer).train_step({}, OptimWrapper(torch.optim.SGD(layer.parameters(), lr=0.1)))


def alone_with(monkeypatch, other):
    """A world of two processes, of which the other sends what ``other`` makes of this one's."""
    monkeypatch.setattr(torch.distributed, 'broadcast', lambda *args: None)
    monkeypatch.setattr(torch.distributed, 'get_world_size', lambda: 2)
    monkeypatch.setattr(torch.distributed, 'all_reduce', lambda flat: flat.add_(other(flat)))


def test_gradients_travel_in_pieces_and_come_back_where_they_were(monkeypatch):
    calls = []
    alone_with(monkeypatch, lambda flat: (calls.append(flat.numel()), flat * 3)[1] if len(flat) != 5 else flat)
    monkeypatch.setattr(flat_data_parallel.pieces, '__defaults__', (40, ))
    model = nn.Sequential(nn.Conv2d(2, 4, 2), nn.Conv2d(4, 2, 2), nn.Linear(3, 3)).to(memory_format=torch.channels_last)
    model[2].bias.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) if parameter.requires_grad else None
    before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    FlatDataParallel(model).average_gradients()
    assert calls == [36, 34, 9]
    for parameter, gradient in zip([p for p in model.parameters() if p.grad is not None], before):
        assert torch.equal(parameter.grad, 2 * gradient)


def test_a_parameter_that_learns_in_one_process_only_ends_the_run(monkeypatch):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0](torch.ones(1, 2)).sum().backward()  # the other process has run the second layer
    alone_with(monkeypatch, lambda flat: flat.flip(0))
    with pytest.raises(RuntimeError, match='0.weight has a gradient in 1 of 2 processes'):
        FlatDataParallel(model).average_gradients()


def test_fast_in_a_config_on_two_processes_gives_what_mmengine_gives(tiny_config, tmp_path):
    fast = tmp_path / 'fast.py'
    fast.write_text("_base_ = ['./tiny.py', 'mmkd_atsc::_base_/fast.py']\n"
                    'optim_wrapper, default_hooks = _base_.fast.optim_wrapper, _base_.fast.default_hooks\n'
                    'model_wrapper_cfg = _base_.fast.model_wrapper_cfg\n'
                    'default_hooks.accelerate.channels_last = False\n')
    for config in (tiny_config, fast):
        done = run_command('bash', 'tools/dist_train.sh', config, '2', '--work-dir', tmp_path / config.stem)
        assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if 'there is no GPU' in line]
    assert len(lines) == 1 and 'no bf16, no compiled blocks and no graph' in lines[0]
    expected, got = (weights(tmp_path / name / 'epoch_2.pth') for name in ('tiny', 'fast'))
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-5, msg=name)
