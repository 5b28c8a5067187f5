"""What a distillation needs beside its model: hooks, loops, parameter groups, and the names of its metrics."""
from typing import Any, List, Optional

from mmengine.config import Config

from .given import SMALL_SIDE
from .text import Code, assignment, comment

OURS = 'mmkd_atsc.DistillOptimWrapperConstructor'
# MMPretrain's layer-wise learning rates are a rule of ours too.
REPLACED = (None, 'DefaultOptimWrapperConstructor', 'LearningRateDecayOptimWrapperConstructor')


def surroundings(whole: Config, method: str, side: int, inherits: bool) -> List[str]:
    """The lines of a config after its model.

    Args:
        whole: The config to inherit.
        method: 'aekt' or 'atsc'.
        side: Side of the images.
        inherits: The student is the inherited config's model.
    """
    lines = [_hooks(whole, method, side)]
    monitors = _monitored(whole.get('param_scheduler'), '_base_.param_scheduler')
    if monitors:
        lines.append(assignment('param_scheduler', monitors))
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
    return name if name is None else str(name).rpartition('.')[2]


def has_foreign_constructor(whole: Config) -> bool:
    """Whether parameter groups are made by a constructor that asks no module for its learning rate."""
    return _constructor(whole) not in (*REPLACED, OURS.rpartition('.')[2])


def _hooks(whole: Config, method: str, side: int) -> str:
    hooks: List[Any] = []
    if whole.train_cfg.get('by_epoch', whole.train_cfg.get('type') != 'IterBasedTrainLoop'):
        if method == 'atsc':
            hooks.append(dict(type='mmkd_atsc.AdaptiveTeacherHook'))
        else:  # DKD's: 20 of 240 epochs for small images, one of 100 for large ones
            epochs = min(20, whole.train_cfg.get('max_epochs', 240) // 10) if side <= SMALL_SIDE else 1
            hooks.append(dict(type='mmkd_atsc.DistillWarmupHook', epochs=max(epochs, 1)))
    inherited = whole.get('custom_hooks') or []
    if not hooks and not _monitored(inherited, ''):
        return ''
    if inherited:
        hooks.insert(0, Code(f'*{_monitored(inherited, "_base_.custom_hooks") or "_base_.custom_hooks"}'))
    return assignment('custom_hooks', hooks)


def _monitored(settings: Any, name: str) -> Optional[Code]:
    """A list of hooks or schedulers with the student's metric in place of the one that some of them watch."""
    several = settings if isinstance(settings, (list, tuple)) else [settings] if settings else []
    if not any('monitor' in setting for setting in several):
        return None
    changed = "dict(one, monitor=f'student/{one.monitor}') if 'monitor' in one else one"
    source = name if isinstance(settings, (list, tuple)) else f'[{name}]'
    return Code(f'[{changed} for one in {source}]')


def _whose(metrics: Any) -> Any:
    """The names that DistillValLoop gives to metrics.

    >>> _whose('accuracy/top1')
    'student/accuracy/top1'
    """
    if isinstance(metrics, (list, tuple)):
        return [_whose(metric) for metric in metrics]
    return metrics if metrics.startswith('student/') else f'student/{metrics}'
