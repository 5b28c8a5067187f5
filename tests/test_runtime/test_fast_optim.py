"""On a CPU the fast optimizer wrapper is MMEngine's; what the fused kernels do not take, the others do."""
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmkd_atsc.runtime import FastOptimWrapper


def steps_of(kind, **options):
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    wrapper = kind(optimizer=torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9), **options)
    for _ in range(3):
        with wrapper.optim_context(layer):
            loss = layer(torch.ones(4, 3)).square().mean()
        wrapper.update_params(loss)
    return layer, wrapper


def test_gradients_are_averaged_before_they_are_clipped():
    layer, wrapper = steps_of(FastOptimWrapper, clip_grad=dict(max_norm=1e-3))
    before, calls = layer.weight.detach().clone(), []
    wrapper.average_gradients = lambda: calls.append(float(layer.weight.grad.norm()))
    wrapper.update_params(layer(torch.ones(4, 3)).square().mean())
    assert len(calls) == 1 and calls[0] > 1e-3 and not torch.equal(before, layer.weight)


def test_a_momentum_of_zero_is_how_sgd_begins():
    """The fused kernel takes parameters of which all have a momentum or none."""
    layers = []
    for begun in (False, True):
        layer, wrapper = steps_of(FastOptimWrapper)
        wrapper.optimizer.state.pop(layer.bias)
        wrapper._begin_momenta() if begun else None
        for _ in range(2):
            wrapper.update_params(layer(torch.ones(4, 3)).square().mean())
        assert set(wrapper.optimizer.state) == {layer.weight, layer.bias}
        layers.append(layer)
    assert torch.equal(layers[0].bias, layers[1].bias)


def two_groups():
    first, second = (nn.Parameter(torch.ones(2)) for _ in range(2))
    wrapper = FastOptimWrapper(optimizer=torch.optim.SGD([dict(params=[first]), dict(params=[second])], lr=0.1,
                                                         momentum=0.9))
    return first, second, wrapper


def test_a_group_that_cannot_be_fused_steps_once_and_without(monkeypatch):
    """Those before it have stepped by then, and must not do so twice."""
    first, second, wrapper = two_groups()
    wrapper._fuse()
    real = wrapper.optimizer.step

    def step(**kwargs):
        for group in wrapper.optimizer.param_groups:
            if group['params'][0] is second and second.grad is not None and group['fused']:
                raise RuntimeError('params, grads, state_steps must have same strides')
            group['fused'] = group['fused'] and group['params'][0] is second  # a CPU of today would run it fused too
        return real(**kwargs)

    monkeypatch.setattr(wrapper.optimizer, 'step', step)
    expected = two_groups()
    for one, other, owner in ((first, second, wrapper), expected):
        for _ in range(2):
            owner.update_params((one * other).sum())
    assert torch.equal(first, expected[0]) and torch.equal(second, expected[1])


def test_a_checkpoint_says_nothing_of_fused_kernels():
    _, wrapper = steps_of(FastOptimWrapper)
    wrapper._fuse()
    state = wrapper.state_dict()
    assert state['param_groups'][0]['fused'] is None
    _, usual = steps_of(OptimWrapper)
    usual.load_state_dict(state)
    assert not usual.optimizer.param_groups[0]['fused']
    wrapper.load_state_dict(usual.state_dict())
    assert wrapper.optimizer.param_groups[0]['fused'] is True
