"""Learning rates and weight decays that modules request, and the check that the optimizer has them."""
import functools
import math
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

CONSTRUCTOR = 'mmkd_atsc.DistillOptimWrapperConstructor'

_unchecked: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()  # of each model that was given


def requested_options(model: nn.Module) -> dict[nn.Parameter, dict]:
    """The options that each module's ``param_group_options()`` requests; an inner module's request wins."""
    options: dict[nn.Parameter, dict] = {}
    for module in model.modules():
        if hasattr(module, 'param_group_options'):
            options.update(module.param_group_options())
    return options


def check_optimizer_at_first_step(model: nn.Module) -> None:
    """Makes the model's first optimizer step fail if the optimizer ignores :func:`requested_options`."""
    _watch_steps()
    _unchecked.setdefault(model, True)


@functools.cache
def _watch_steps() -> None:
    """PyTorch calls this hook before each optimizer step, also in a bare Runner, under DDP and beside a CUDA graph."""
    register_optimizer_step_pre_hook(_check_before_step)


def _check_before_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    for model in [model for model, unchecked in _unchecked.items() if unchecked]:
        options = requested_options(model)
        _unchecked[model] = bool(options) and not check_groups(options, optimizer)


def check_groups(options: dict[nn.Parameter, dict], optimizer: torch.optim.Optimizer) -> bool:
    """Refuses an optimizer whose groups lack the requested options; returns whether it has any of the parameters."""
    # A multiple is of the optimizer's rate or, if auto_scale_lr has scaled the groups, of the other groups' rate.
    rates = {optimizer.defaults['lr'],
             *(_rate(group) for parameter, group in _members(optimizer) if parameter not in options)}
    found = [(options[parameter], group) for parameter, group in _members(optimizer) if parameter in options]
    for wish, group in found:
        has_rate = any(math.isclose(_rate(group), rate * wish.get('lr_mult', 1.0), rel_tol=1e-6) for rate in rates)
        if not has_rate or any(group.get(name) != value for name, value in wish.items() if name != 'lr_mult'):
            listed = ', '.join(f'{name}={value}' for name, value in wish.items())
            raise ValueError(f'the optimizer ignores what parts of the model ask for ({listed}); write '
                             f"optim_wrapper=dict(constructor='{CONSTRUCTOR}')")
    return bool(found)


def _members(optimizer: torch.optim.Optimizer) -> Iterator[tuple[nn.Parameter, dict]]:
    return ((parameter, group) for group in optimizer.param_groups for parameter in group['params'])


def _rate(group: dict) -> float:
    """The rate before any schedule."""
    return float(group.get('initial_lr', group['lr']))
