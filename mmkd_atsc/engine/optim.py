"""Parameter groups that the model itself asks for."""
from collections import defaultdict

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from mmkd_atsc.errors.checks import check_keys
from mmkd_atsc.models.param_groups import requested_options
from mmkd_atsc.registry import OPTIM_WRAPPER_CONSTRUCTORS

# What MMEngine's constructor reads of paramwise_cfg; it ignores all others.
PARAMWISE = ('custom_keys', 'lr_mult', 'decay_mult', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult',
             'flat_decay_mult', 'dwconv_decay_mult', 'dcn_offset_lr_mult', 'bypass_duplicate', 'layer_decay_rate',
             '_delete')  # a slip of MMPretrain's, in its Twins configs


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DistillOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor, which also gives modules the learning rate and weight decay that they ask for.

    A module's ``param_group_options()`` yields pairs of a parameter and ``dict(lr_mult=..., weight_decay=...)``;
    ``paramwise_cfg`` rules the rest as always. Parameters with equal options share a group.

    ``paramwise_cfg=dict(layer_decay_rate=0.75, ...)`` makes the groups of a distillation's *student* (or of a network
    that is trained alone) by MMPretrain's ``LearningRateDecayOptimWrapperConstructor``: the earlier a layer, the lower
    its rate.

    >>> from mmengine.optim import build_optim_wrapper
    >>> wrapper = build_optim_wrapper(nn.Linear(2, 2), dict(
    ...     constructor='mmkd_atsc.DistillOptimWrapperConstructor', optimizer=dict(type='SGD', lr=1.0)))
    >>> len(wrapper.optimizer.param_groups)
    1
    """

    paramwise_cfg: dict

    def __call__(self, model: nn.Module) -> OptimWrapper:
        check_keys('paramwise_cfg', self.paramwise_cfg, PARAMWISE)
        model = getattr(model, 'module', model)
        self._options = requested_options(model)
        self._has_rules = bool(self.paramwise_cfg)
        has_frozen = any(not parameter.requires_grad for parameter in model.parameters())
        if (self._options or has_frozen) and not self._has_rules:
            # Without any rule MMEngine takes model.parameters() as they are, frozen ones too, and asks nobody.
            self.paramwise_cfg = dict(bypass_duplicate=False)
        wrapper = super().__call__(model)
        wrapper.optimizer.configured_lr = wrapper.optimizer.param_groups[0]['lr']  # before auto_scale_lr
        return wrapper

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs) -> None:
        trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if prefix:  # MMEngine's recursion; it would log a line for each parameter of a frozen teacher
            if trainable:
                super().add_params(params, module, prefix=prefix, **kwargs)
            return
        if 'layer_decay_rate' in self.paramwise_cfg:
            student = getattr(module, 'architecture', module)
            params.extend(self._layerwise_groups(student))
            for name, part in module.named_children() if student is not module else ():
                if part is not student and any(parameter.requires_grad for parameter in part.parameters()):
                    super().add_params(params, part, prefix=name, **kwargs)
        elif self._has_rules:
            super().add_params(params, module, prefix=prefix, **kwargs)
        else:
            params.extend({'params': [parameter]} for parameter in trainable)
        for group in params:
            options = dict(self._options.get(group['params'][0], {}))
            if 'lr_mult' in options:
                options['lr'] = self.base_lr * options.pop('lr_mult')
            group.update(options)
        params[:] = merge_groups(params)

    def _layerwise_groups(self, student: nn.Module) -> list[dict]:
        """MMPretrain's groups for a network, without the notes that it logs and that would keep groups apart."""
        # Not at import: mmpretrain's package takes a second, and few trainings need it.
        from mmpretrain.engine import LearningRateDecayOptimWrapperConstructor
        if not hasattr(getattr(student, 'backbone', None), 'get_layer_depth'):
            name = type(getattr(student, 'backbone', student)).__name__
            raise ValueError(f'layer_decay_rate is for backbones that number their layers, {name} does not')
        groups: list[dict] = []
        prefix = 'architecture.'  # without any, MMPretrain logs the groups, and fails where there is no weight decay
        constructor = LearningRateDecayOptimWrapperConstructor(
            dict(self.optim_wrapper_cfg, optimizer=self.optimizer_cfg), self.paramwise_cfg)
        constructor.add_params(groups, student, prefix=prefix,
                               get_layer_depth=lambda name: student.get_layer_depth(name[len(prefix):]))
        return [{key: value for key, value in group.items() if key not in ('lr_scale', 'layer_id', 'param_name')}
                for group in groups]


def merge_groups(groups: list[dict]) -> list[dict]:
    """Groups with the same options become one, in the order of their first parameter."""
    merged: dict[tuple, dict] = {}
    parameters = defaultdict(list)
    for group in groups:
        key = tuple(sorted((name, repr(value)) for name, value in group.items() if name != 'params'))
        merged.setdefault(key, group)
        parameters[key].extend(group['params'])
    return [dict(group, params=parameters[key]) for key, group in merged.items()]
