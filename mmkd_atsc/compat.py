"""Patches that let MMRazor 1.0 and MMEngine 0.10 run on a current PyTorch, each applied when its module is imported."""
import copy
import importlib
import sys
import warnings
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, spec_from_loader
from types import ModuleType
from typing import Any

MMRAZOR_PACKAGES = ('mmrazor.models', 'mmrazor.engine', 'mmrazor.structures', 'mmrazor.datasets',
                    'mmrazor.implementations')

# Classes of mmcls that have another name in mmpretrain: where, name there, name here.
MMCLS_NAMES = (('mmcls.datasets.transforms.formatting', 'PackClsInputs', 'PackInputs'),
               ('mmcls.structures', 'ClsDataSample', 'DataSample'))

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
    """Applies the patches of modules that are imported already, and the others when they are."""
    for text in UNHELPFUL_WARNINGS:
        warnings.filterwarnings('ignore', message=text)
    patches: dict[str, Callable[[], None]] = {
        'mmrazor': import_mmrazor, 'torch': allow_mmengine_checkpoints, 'mmengine.config': name_configs_package,
        'mmengine.registry': rename_mmcls_scope, 'mmengine.runner': patch_runner,
        'mmpretrain.models.classifiers': load_wrapped_classifiers}
    sys.meta_path[:0] = [MMClsAlias(), PatchOnImport(patches)]  # before the patches, which import some of the others
    for name in [name for name in patches if name in sys.modules]:
        patches.pop(name)()


class PatchOnImport(MetaPathFinder):
    """Calls ``patches[name]`` when the module ``name`` has been imported."""

    def __init__(self, patches: dict[str, Callable[[], None]]) -> None:
        self.patches = patches

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in self.patches:
            return None
        patch = self.patches.pop(name)  # so that only the other finders are asked here
        spec = find_spec(name)
        self.patches[name] = patch
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_patch(module: ModuleType) -> None:
            execute(module)
            self.patches.pop(name, None)
            patch()

        spec.loader.exec_module = execute_and_patch  # type: ignore[method-assign]
        return spec


class MMClsAlias(MetaPathFinder, Loader):
    """Imports ``mmpretrain`` for ``mmcls``, its name when MMRazor was written, unless there is a real mmcls."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        package, dot, rest = name.partition('.')
        if package != 'mmcls' or PathFinder.find_spec('mmcls'):
            return None
        real = find_spec(f'mmpretrain{dot}{rest}')
        return real and spec_from_loader(name, self, origin=real.origin)

    def exec_module(self, module: ModuleType) -> None:
        real = importlib.import_module(module.__name__.replace('mmcls', 'mmpretrain', 1))
        sys.modules[module.__name__] = real
        for place, old, new in MMCLS_NAMES:
            if place == module.__name__:
                setattr(real, old, getattr(real, new))


def rename_mmcls_scope() -> None:
    """Makes MMEngine's registries look up ``mmcls.ImageClassifier`` and ``_scope_='mmcls'`` in MMPretrain."""
    from mmengine.registry import DefaultScope, Registry
    if PathFinder.find_spec('mmcls'):
        return
    split, scope_name = Registry.split_scope_key, DefaultScope.scope_name.fget  # type: ignore[attr-defined]

    def rename(scope: str | None) -> str | None:
        return 'mmpretrain' if scope == 'mmcls' else scope

    def split_scope_key(key: str) -> tuple[str | None, str]:
        scope, name = split(key)
        return rename(scope), name

    Registry.split_scope_key = staticmethod(split_scope_key)
    DefaultScope.scope_name = property(lambda self: rename(scope_name(self)))


def load_wrapped_classifiers() -> None:
    """Lets MMPretrain's timm and Hugging Face classifiers keep their weights, and load them as a part of another model.

    They leave 'model.' out of their keys, but only where they are saved alone, and add it to all keys that they load.
    MMEngine would initialise their networks, which have done that already, once more and over pretrained weights.
    """
    from mmpretrain.models.classifiers import HuggingFaceClassifier, TimmClassifier
    for kind in (HuggingFaceClassifier, TimmClassifier):
        add, init = kind._add_state_dict_prefix, kind.init_weights

        def init_weights(self, init=init):
            self.model.is_init = True
            init(self)

        def add_state_dict_prefix(state_dict, prefix, *args, add=add):
            if not any(key.startswith(f'{prefix}model.') for key in state_dict):
                add(state_dict, prefix, *args)

        kind._add_state_dict_prefix, kind.init_weights = staticmethod(add_state_dict_prefix), init_weights


def import_mmrazor() -> None:
    """Imports MMRazor's packages while its own version check takes this PyTorch for 1.12.

    For PyTorch below 1.13, MMRazor 1.0 leaves quantization out, whose tables need names that PyTorch 2.1 has dropped.
    """
    import mmrazor
    import torch
    check = mmrazor.digit_version

    def check_as_old_torch(version: str, *args, **kwargs):
        return check('1.12.0' if version == torch.__version__ else version, *args, **kwargs)

    mmrazor.digit_version = check_as_old_torch
    try:
        for name in MMRAZOR_PACKAGES:
            importlib.import_module(name)
    finally:
        mmrazor.digit_version = check


def getattr_of_history(owner: Any, name: str) -> Any:
    """Replaces ``builtins.getattr`` inside a checkpoint: it returns one of ``HistoryBuffer``'s statistics or raises."""
    from mmengine.logging import HistoryBuffer
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(HistoryBuffer, name)
    raise ValueError(f"a checkpoint asked for getattr({owner!r}, {name!r}); only HistoryBuffer's statistics are served")


def allow_mmengine_checkpoints() -> None:
    """Lets ``torch.load(weights_only=True)`` read the message hub's ``HistoryBuffer`` and its NumPy arrays; no code."""
    import numpy as np
    import torch
    from mmengine.logging import HistoryBuffer
    reconstruct: Any = np.empty(0).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(kind)) for kind in ('float64', 'float32', 'int64', 'int32', 'uint8', 'bool', 'uint64')]
    torch.serialization.add_safe_globals([
        HistoryBuffer, np.ndarray, np.dtype, *dtypes,
        # NumPy 2 moved numpy.core to numpy._core; checkpoints carry the name of the NumPy that wrote them.
        *((function, f'numpy.{core}.multiarray.{function.__name__}')
          for function in (reconstruct, scalar) for core in ('core', '_core')),
        (getattr_of_history, 'builtins.getattr'),
    ])


def name_configs_package() -> None:
    """Makes ``_base_ = ['mmkd_atsc::...']`` resolve: MMEngine only looks into packages that are on its list.

    Such a base gets no ``_scope_``. Our configs give each type its prefix, and the scope would also hold inside the
    constructors of MMPretrain and MMRazor, which name their parts without one.
    """
    from mmengine.config import Config
    from mmengine.config.utils import MODULE2PACKAGE
    find = Config._get_cfg_path
    # MMEngine looks for a distribution beside its metadata, which an editable install has elsewhere; for a module,
    # where Python finds it.
    MODULE2PACKAGE['mmkd_atsc'] = 'mmkd_atsc.version'

    def find_without_our_scope(cfg_path, filename):
        path, scope = find(cfg_path, filename)
        return path, None if scope == 'mmkd_atsc' else scope

    Config._get_cfg_path = staticmethod(find_without_our_scope)


def patch_runner() -> None:
    """Lets a runner take collate functions from ``package::config``, and leave out any hook that is None.

    MMEngine would call a collate function with the ``_scope_`` that it notes in each dict of a package's config. Of
    hooks, it lets six names be None, and fails without a message at any other.
    """
    from mmengine.runner import Runner
    build, register = Runner.build_dataloader, Runner.register_default_hooks
    known = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')

    def build_dataloader(dataloader, *args, **kwargs):
        collate = dataloader.get('collate_fn') if isinstance(dataloader, dict) else None
        if isinstance(collate, dict) and '_scope_' in collate:
            dataloader = copy.deepcopy(dataloader)
            del dataloader['collate_fn']['_scope_']
        return build(dataloader, *args, **kwargs)

    def register_default_hooks(self, hooks=None):
        register(self, {name: hook for name, hook in (hooks or {}).items() if hook is not None or name in known})

    Runner.build_dataloader = staticmethod(build_dataloader)
    Runner.register_default_hooks = register_default_hooks
