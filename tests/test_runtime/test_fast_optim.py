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
