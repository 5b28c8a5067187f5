"""The mends that let MMRazor 1.0 and MMEngine 0.10 run on a current PyTorch.

Each function mends one thing, returns whether there was something to mend, and may be called again. None of them
changes PyTorch, and none changes what MMRazor or MMEngine do for code that worked without us.
"""
import copy
import functools
import importlib
import sys
import warnings
from typing import Any

import numpy as np
import torch

MMRAZOR_PACKAGES = ('mmrazor.models', 'mmrazor.engine', 'mmrazor.structures', 'mmrazor.datasets',
                    'mmrazor.implementations')

# Warnings that the stack prints at import or at every step and that a user can do nothing about, by their text.
UNHELPFUL_WARNINGS = (
    'Fail to import ``MultiScaleDeformableAttention``',  # mmcv-lite has no compiled ops, classifiers need none
    'size_average and reduce args will be deprecated',  # mmrazor's DKDLoss
    '.*torch.jit.script.* is (deprecated|not supported)',
    'pkg_resources is deprecated as an API',  # mmengine.utils.package_utils
    'Deprecated call to .pkg_resources.declare_namespace',
    '`broadcast_buffers` is deprecated',  # mmengine's DistributedDataParallel
)


def apply_all() -> None:
    """Everything that must happen before the first MMRazor type or MMEngine checkpoint is used."""
    silence_unhelpful_warnings()
    import_mmrazor()
    allow_mmengine_checkpoints()
    name_configs_package()
    let_collate_functions_be_inherited()
    let_base_hooks_be_left_out()


def silence_unhelpful_warnings() -> bool:
    """Filters exactly :data:`UNHELPFUL_WARNINGS`, by message; every other warning is shown as before."""
    known = {(f[0], f[1].pattern) for f in warnings.filters if f[1] is not None}
    missing = [text for text in UNHELPFUL_WARNINGS if ('ignore', text) not in known]
    for text in missing:
        warnings.filterwarnings('ignore', message=text)
    return bool(missing)


def _torch_has_mmrazors_quantization() -> bool:
    """Whether the names that MMRazor's quantization tables import still exist (they left with torch 2.1)."""
    try:
        from torch.ao.quantization.fuser_method_mappings import reverse2, reverse3  # noqa: F401
    except ImportError:
        return False
    return True


def import_mmrazor() -> bool:
    """Imports MMRazor's packages while its own version gate takes this PyTorch for 1.12.

    MMRazor 1.0 has a branch for PyTorch below 1.13 that leaves quantization out. On a PyTorch that has dropped the
    names its quantization tables need, that branch is the one that works, so the gate (``mmrazor.digit_version``)
    answers 1.12 for the installed version during this one import and is put back after it.

    Returns:
        bool: Whether the gate had to be moved. False where MMRazor was imported before, or imports as it is.
    """
    if all(name in sys.modules for name in MMRAZOR_PACKAGES):
        return False
    import mmrazor
    if _torch_has_mmrazors_quantization():
        _import_mmrazor_packages()
        return False

    gate = mmrazor.digit_version

    def old_torch_gate(version: str, *args, **kwargs):
        return gate('1.12.0' if version == torch.__version__ else version, *args, **kwargs)

    mmrazor.digit_version = old_torch_gate
    try:
        _import_mmrazor_packages()
    finally:
        mmrazor.digit_version = gate
    return True


def _import_mmrazor_packages() -> None:
    for name in MMRAZOR_PACKAGES:
        importlib.import_module(name)


class _HistoryBufferGetattr:
    """What ``builtins.getattr`` may do inside a checkpoint: name one of ``HistoryBuffer``'s statistics."""

    METHODS = ('min', 'max', 'current', 'mean')

    def __call__(self, owner, name):
        from mmengine.logging import HistoryBuffer
        if owner is HistoryBuffer and name in self.METHODS:
            return getattr(HistoryBuffer, name)
        raise ValueError(f'a checkpoint asked for getattr({owner!r}, {name!r}); only HistoryBuffer.'
                         f'{{{",".join(self.METHODS)}}} is served')


def mmengine_checkpoint_globals() -> list:
    """What an MMEngine checkpoint holds beside tensors: the message hub's ``HistoryBuffer`` and its NumPy arrays."""
    from mmengine.logging import HistoryBuffer
    reconstruct: Any = np.empty(0).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(kind)) for kind in ('float64', 'float32', 'int64', 'int32', 'uint8', 'bool', 'uint64')]
    return [
        HistoryBuffer, np.ndarray, np.dtype, *dtypes,
        # NumPy 2 moved numpy.core to numpy._core; checkpoints carry the name of the NumPy that wrote them.
        *((function, f'numpy.{core}.multiarray.{function.__name__}')
          for function in (reconstruct, scalar) for core in ('core', '_core')),
        (_HistoryBufferGetattr(), 'builtins.getattr'),
    ]


def allow_mmengine_checkpoints() -> bool:
    """Lets ``torch.load(weights_only=True)`` read the training state that MMEngine writes, and no code."""
    wanted = mmengine_checkpoint_globals()
    names = {_global_name(entry) for entry in torch.serialization.get_safe_globals()}
    missing = [entry for entry in wanted if _global_name(entry) not in names]
    torch.serialization.add_safe_globals(missing)
    return bool(missing)


def _global_name(entry: Any) -> str:
    return entry[1] if isinstance(entry, tuple) else f'{entry.__module__}.{entry.__qualname__}'


def name_configs_package() -> bool:
    """Makes ``_base_ = ['mmkd_atsc::...']`` resolve: MMEngine only looks into packages that are on its list.

    By a distribution's name MMEngine looks where its metadata lies, which for an editable install is not where the
    package is. A module that is no distribution it finds as Python does, in the folder of the package that is imported.
    """
    from mmengine.config.utils import MODULE2PACKAGE
    if 'mmkd_atsc' in MODULE2PACKAGE:
        return False
    MODULE2PACKAGE['mmkd_atsc'] = 'mmkd_atsc.version'
    return True


def let_collate_functions_be_inherited() -> bool:
    """Makes a data loader that is inherited from ``package::config`` build.

    MMEngine notes in each dict with a type what package it came from (``_scope_``), and its registries take the note
    out again. Only the collate function is not built by a registry, and would be called with it as an argument.
    """
    from mmengine.runner import Runner
    build = Runner.build_dataloader
    if hasattr(build, '__wrapped__'):
        return False

    @functools.wraps(build)
    def build_dataloader(dataloader, *args, **kwargs):
        collate = dataloader.get('collate_fn') if isinstance(dataloader, dict) else None
        if isinstance(collate, dict) and '_scope_' in collate:
            dataloader = copy.deepcopy(dataloader)
            del dataloader['collate_fn']['_scope_']
        return build(dataloader, *args, **kwargs)

    Runner.build_dataloader = staticmethod(build_dataloader)
    return True


def let_base_hooks_be_left_out() -> bool:
    """Makes ``default_hooks=dict(start_check=None)`` leave out a hook that a base file brings.

    MMEngine knows only six names that may be None, and fails without a message at any other.
    """
    from mmengine.runner import Runner
    register = Runner.register_default_hooks
    if hasattr(register, '__wrapped__'):
        return False
    known = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')

    @functools.wraps(register)
    def register_default_hooks(self, hooks=None):
        register(self, {name: hook for name, hook in (hooks or {}).items() if hook is not None or name in known})

    Runner.register_default_hooks = register_default_hooks
    return True
