"""Patches that let MMRazor 1.0 and MMEngine 0.10 run on a current PyTorch.

Each function patches one thing and may be called again. None changes PyTorch, and none changes what MMRazor or MMEngine
do for code that worked without us.
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
    """Applies all patches; to be called before the first MMRazor type or MMEngine checkpoint is used."""
    silence_unhelpful_warnings()
    import_mmrazor()
    allow_mmengine_checkpoints()
    name_configs_package()
    let_collate_functions_be_inherited()
    let_base_hooks_be_left_out()


def silence_unhelpful_warnings() -> None:
    """Filters exactly :data:`UNHELPFUL_WARNINGS`, by message; every other warning is shown as before."""
    for text in UNHELPFUL_WARNINGS:
        warnings.filterwarnings('ignore', message=text)  # which adds no filter twice


def import_mmrazor() -> None:
    """Imports MMRazor's packages while its own version check takes this PyTorch for 1.12.

    For PyTorch below 1.13, MMRazor 1.0 leaves quantization out, whose tables need names that PyTorch 2.1 has dropped.
    """
    if all(name in sys.modules for name in MMRAZOR_PACKAGES):
        return
    import mmrazor
    check = mmrazor.digit_version

    def check_as_old_torch(version: str, *args, **kwargs):
        return check('1.12.0' if version == torch.__version__ else version, *args, **kwargs)

    mmrazor.digit_version = check_as_old_torch
    try:
        for name in MMRAZOR_PACKAGES:
            importlib.import_module(name)
    finally:
        mmrazor.digit_version = check


class _HistoryBufferGetattr:
    """What ``builtins.getattr`` may do inside a checkpoint: name one of ``HistoryBuffer``'s statistics."""

    METHODS = ('min', 'max', 'current', 'mean')

    def __call__(self, owner: Any, name: str) -> Any:
        from mmengine.logging import HistoryBuffer
        if owner is HistoryBuffer and name in self.METHODS:
            return getattr(HistoryBuffer, name)
        raise ValueError(f'a checkpoint asked for getattr({owner!r}, {name!r}); only HistoryBuffer.'
                         f'{{{",".join(self.METHODS)}}} is served')


def allow_mmengine_checkpoints() -> None:
    """Lets ``torch.load(weights_only=True)`` read the training state that MMEngine writes, and no code.

    That is, beside tensors, the message hub's ``HistoryBuffer`` and its NumPy arrays.
    """
    from mmengine.logging import HistoryBuffer
    reconstruct: Any = np.empty(0).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(kind)) for kind in ('float64', 'float32', 'int64', 'int32', 'uint8', 'bool', 'uint64')]
    torch.serialization.add_safe_globals([
        HistoryBuffer, np.ndarray, np.dtype, *dtypes,
        # NumPy 2 moved numpy.core to numpy._core; checkpoints carry the name of the NumPy that wrote them.
        *((function, f'numpy.{core}.multiarray.{function.__name__}')
          for function in (reconstruct, scalar) for core in ('core', '_core')),
        (_HistoryBufferGetattr(), 'builtins.getattr'),
    ])


def name_configs_package() -> None:
    """Makes ``_base_ = ['mmkd_atsc::...']`` resolve: MMEngine only looks into packages that are on its list.

    By a distribution's name MMEngine looks where its metadata lies, which for an editable install is not where the
    package is. A module that is no distribution it finds as Python does, in the folder of the package that is imported.
    """
    from mmengine.config.utils import MODULE2PACKAGE
    MODULE2PACKAGE['mmkd_atsc'] = 'mmkd_atsc.version'


def let_collate_functions_be_inherited() -> None:
    """Makes a data loader that is inherited from ``package::config`` build.

    MMEngine notes in each dict with a type what package it came from (``_scope_``), and its registries take the note
    out again. Only the collate function is not built by a registry, and would be called with it as an argument.
    """
    from mmengine.runner import Runner
    build = Runner.build_dataloader
    if hasattr(build, '__wrapped__'):
        return

    @functools.wraps(build)
    def build_dataloader(dataloader, *args, **kwargs):
        collate = dataloader.get('collate_fn') if isinstance(dataloader, dict) else None
        if isinstance(collate, dict) and '_scope_' in collate:
            dataloader = copy.deepcopy(dataloader)
            del dataloader['collate_fn']['_scope_']
        return build(dataloader, *args, **kwargs)

    Runner.build_dataloader = staticmethod(build_dataloader)


def let_base_hooks_be_left_out() -> None:
    """Makes ``default_hooks=dict(start_check=None)`` leave out a hook that a base file brings.

    MMEngine knows only six names that may be None, and fails without a message at any other.
    """
    from mmengine.runner import Runner
    register = Runner.register_default_hooks
    if hasattr(register, '__wrapped__'):
        return
    known = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')

    @functools.wraps(register)
    def register_default_hooks(self, hooks=None):
        register(self, {name: hook for name, hook in (hooks or {}).items() if hook is not None or name in known})

    Runner.register_default_hooks = register_default_hooks
