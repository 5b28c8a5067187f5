"""What a distillation needs beside its model: hooks, loops, parameter groups, and the names of its metrics."""
from typing import Any, List, Optional

from mmengine.config import Config

from mmkd_atsc.registry import short_name

from .text import Changed, Code, assignment, comment

OURS = 'mmkd_atsc.DistillOptimWrapperConstructor'
# Hooks of another distillation, which the new one does not inherit.
METHOD_HOOKS = ('AdaptiveTeacherHook', 'DistillWarmupHook', 'StopDistillHook')
# MMPretrain's layer-wise learning rates are a rule of ours too.
REPLACED = (None, 'DefaultOptimWrapperConstructor', 'LearningRateDecayOptimWrapperConstructor')


def surroundings(whole: Config, method: str, small: bool, inherits: bool) -> List[str]:
    """The lines of a config after its model.

    Args:
        whole: The config to inherit.
        method: 'aekt' or 'atsc'.
        small: Settings are those for small images.
        inherits: The student is the inherited config's model.
    """
    lines = [_hooks(whole, method, small)]
    schedulers = _inherited(whole.get('param_scheduler'), '_base_.param_scheduler')
    if schedulers not in ([], ['*_base_.param_scheduler']):
        lines.append(assignment('param_scheduler', schedulers))
    if _constructor(whole) in REPLACED:
        lines.append(assignment('optim_wrapper', dict(constructor=OURS)))
    for stage in ('val', 'test'):
        if whole.get(f'{stage}_cfg') is not None:
            kind = f'mmkd_atsc.Distill{stage.capitalize()}Loop'
            lines.append(assignment(f'{stage}_cfg', dict(type=kind)))
    best = ((whole.get('default_hooks') or {}).get('checkpoint') or {}).get('save_best')
    if best and best != 'auto' and whole.get('val_cfg') is not None:
        lines.append(assignment('default_hooks', dict(checkpoint=dict(save_best=_whose(best)))))
    if whole.get('load_from'):
        why = 'The student starts with it, see above.' if inherits else 'It is for another network.'
        lines += [comment(why), 'load_from = None']
    if not whole.get('default_scope'):
        lines.append(assignment('default_scope', 'mmpretrain'))
    return [line for line in lines if line]


def _constructor(whole: Config) -> Optional[str]:
    name = whole.optim_wrapper.get('constructor')
    return name if name is None else short_name(name)


def has_foreign_constructor(whole: Config) -> bool:
    """Whether parameter groups are made by a constructor that asks no module for its learning rate."""
    return _constructor(whole) not in (*REPLACED, short_name(OURS))


def _hooks(whole: Config, method: str, small: bool) -> str:
    hooks = _inherited(whole.get('custom_hooks'), '_base_.custom_hooks')
    if whole.train_cfg.get('by_epoch', short_name(whole.train_cfg.get('type')) != 'IterBasedTrainLoop'):
        if method == 'atsc':
            hooks.append(dict(type='mmkd_atsc.AdaptiveTeacherHook'))
        else:  # DKD's: 20 of 240 epochs for small images, one of 100 for large ones
            epochs = min(20, whole.train_cfg.get('max_epochs', 240) // 10) if small else 1
            hooks.append(dict(type='mmkd_atsc.DistillWarmupHook', epochs=max(epochs, 1)))
    is_same = hooks == ['*_base_.custom_hooks'] or not (hooks or whole.get('custom_hooks'))
    return '' if is_same else assignment('custom_hooks', hooks)


def _inherited(settings: Any, name: str) -> List[Any]:
    """Hooks or schedulers of the inherited config: those that watch a metric watch the student's, ours are left out."""
    several = settings if isinstance(settings, (list, tuple)) else [settings] if settings else []
    places = [name] if isinstance(settings, dict) else [f'{name}[{number}]' for number in range(len(several))]
    kept = []
    for place, setting in zip(places, several):
        setting = setting if isinstance(setting, dict) else {}
        metric = setting.get('monitor', 'student/')
        if short_name(setting.get('type')) not in METHOD_HOOKS:
            kept.append(Code(place) if metric == _whose(metric) else Changed(place, monitor=_whose(metric)))
    return [Code(f'*{name}')] if kept and kept == places else kept


def _whose(metrics: Any) -> Any:
    """The names that DistillValLoop gives to metrics.

    >>> _whose('accuracy/top1')
    'student/accuracy/top1'
    """
    if isinstance(metrics, (list, tuple)):
        return [_whose(metric) for metric in metrics]
    return metrics if metrics.startswith('student/') else f'student/{metrics}'
