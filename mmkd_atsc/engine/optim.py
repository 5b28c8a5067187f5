"""Parameter groups that the model itself asks for."""
from collections import defaultdict
from typing import Dict, List

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from mmkd_atsc.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DistillOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor, that also asks the model's modules for their learning rate and weight decay.

    What a module's ``param_group_options()`` yields, pairs of a parameter and ``dict(lr_mult=..., weight_decay=...)``,
    makes a group of its own; ``paramwise_cfg`` rules the rest as always. Parameters with equal options share a group:
    MMEngine makes one group a parameter, and the optimizer then runs its kernels once a parameter instead of once for
    all.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        model = getattr(model, 'module', model)
        self._options = requested_options(model)
        self._has_rules = bool(self.paramwise_cfg)
        has_frozen = any(not parameter.requires_grad for parameter in model.parameters())
        if (self._options or has_frozen) and not self._has_rules:
            # Without any rule MMEngine takes model.parameters() as they are, frozen ones too, and asks nobody.
            self.paramwise_cfg = dict(bypass_duplicate=False)
        return super().__call__(model)

    def add_params(self, params: List[dict], module: nn.Module, prefix: str = '', **kwargs) -> None:
        trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if prefix:  # MMEngine's recursion; it would log a line for each parameter of a frozen teacher
            return super().add_params(params, module, prefix=prefix, **kwargs) if trainable else None
        if self._has_rules:
            super().add_params(params, module, prefix=prefix, **kwargs)
        else:
            params.extend({'params': [parameter]} for parameter in trainable)
        for group in params:
            group.update(self._group_options(group['params'][0]))
        params[:] = merge_groups(params)

    def _group_options(self, parameter: nn.Parameter) -> dict:
        options = dict(self._options.get(parameter, {}))
        if 'lr_mult' in options:
            options['lr'] = self.base_lr * options.pop('lr_mult')
        return options


def requested_options(model: nn.Module) -> Dict[nn.Parameter, dict]:
    """What each parameter's module asks for; an inner module's wish wins over an outer one's."""
    options: Dict[nn.Parameter, dict] = {}
    for module in model.modules():
        if hasattr(module, 'param_group_options'):
            for parameter, wish in module.param_group_options():
                options[parameter] = wish
    return options


def merge_groups(groups: List[dict]) -> List[dict]:
    """Groups with the same options become one, in the order of their first parameter."""
    merged: Dict[tuple, dict] = {}
    parameters = defaultdict(list)
    for group in groups:
        key = tuple(sorted((name, repr(value)) for name, value in group.items() if name != 'params'))
        merged.setdefault(key, group)
        parameters[key].extend(group['params'])
    return [dict(group, params=parameters[key]) for key, group in merged.items()]
