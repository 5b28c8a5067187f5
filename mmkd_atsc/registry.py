"""The plugin's registries: scope ``mmkd_atsc``, one child for each root registry of MMEngine.

The parents are MMEngine's roots, so that MMPretrain's and MMRazor's configs find ``type='mmkd_atsc.AEKTLoss'``.
MMEngine imports this module at the prefix, and then the ``locations``: no config needs ``custom_imports``.
"""
from typing import Any

from mmengine import registry as roots
from mmengine.registry import Registry

_MODELS = ['mmkd_atsc.models']
_ENGINE = ['mmkd_atsc.engine', 'mmkd_atsc.runtime']
_DATASETS = ['mmkd_atsc.datasets']
_RECORDERS = ['mmkd_atsc.recorders']


def short_name(kind: Any) -> str:
    """A type's name without its package: a config may give a name, one with a scope or a module, or the class.

    >>> short_name('mmkd_atsc.AEKTLoss'), short_name('AEKTLoss'), short_name(Registry)
    ('AEKTLoss', 'AEKTLoss', 'Registry')
    """
    return kind.__name__ if isinstance(kind, type) else str(kind).rpartition('.')[2]


def class_of(part: Any, scope: str = 'mmpretrain', registry: Registry = roots.MODELS) -> type | None:
    """The class that a part of a config names by its ``type``; None if it is not installed."""
    kind = part.get('type') if isinstance(part, dict) else None
    if not isinstance(kind, str):
        return kind if isinstance(kind, type) else None
    with registry.switch_scope_and_registry(scope) as scoped:
        found = scoped.get(kind)
    return found if isinstance(found, type) else None


def _child(root: Registry, locations: list) -> Registry:
    return Registry(root.name, parent=root, scope='mmkd_atsc', locations=locations)


LOOPS = _child(roots.LOOPS, _ENGINE)
HOOKS = _child(roots.HOOKS, [*_ENGINE, 'mmkd_atsc.export'])
OPTIM_WRAPPERS = _child(roots.OPTIM_WRAPPERS, _ENGINE)
OPTIM_WRAPPER_CONSTRUCTORS = _child(roots.OPTIM_WRAPPER_CONSTRUCTORS, _ENGINE)
PARAM_SCHEDULERS = _child(roots.PARAM_SCHEDULERS, _ENGINE)
DATASETS = _child(roots.DATASETS, _DATASETS)
FUNCTIONS = _child(roots.FUNCTIONS, _DATASETS)
TRANSFORMS = _child(roots.TRANSFORMS, _DATASETS)
MODELS = _child(roots.MODELS, _MODELS)
MODEL_WRAPPERS = _child(roots.MODEL_WRAPPERS, _ENGINE)
TASK_UTILS = _child(roots.TASK_UTILS, _RECORDERS)
# Nothing of ours is in these, but without them MMEngine would warn of a scope that they do not have.
for _root in (roots.RUNNERS, roots.RUNNER_CONSTRUCTORS, roots.LOG_PROCESSORS, roots.OPTIMIZERS, roots.DATA_SAMPLERS,
              roots.WEIGHT_INITIALIZERS, roots.METRICS, roots.EVALUATOR, roots.INFERENCERS, roots.VISUALIZERS,
              roots.VISBACKENDS):
    _child(_root, _ENGINE)
