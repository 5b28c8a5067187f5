"""Reads a config, and refuses settings that nothing would read."""
import difflib
import inspect
import warnings
from pathlib import Path
from typing import Any

from mmengine import registry as roots
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmkd_atsc.paths import get_package_config
from mmkd_atsc.registry import short_name

from .checks import nearest
from .messages import dicts_of, types_registered

# The first level of a config: what MMEngine or our tools read. Other names are variables of the config's author.
SETTINGS = (*inspect.signature(Runner.__init__).parameters, 'activation_checkpointing', 'compile',
            'efficient_conv_bn_eval', 'find_unused_parameters', 'model_wrapper_cfg', 'runner_type', 'sync_bn')

# Dictionaries of which MMEngine reads these keys and ignores all others.
KEYS_READ = {
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
    'env_cfg.dist_cfg': ('backend', 'init_backend', 'timeout', 'port', 'deepspeed', 'device_id', 'pg_options'),
    'auto_scale_lr': ('enable', 'base_batch_size'),
    'default_hooks.checkpoint': ('type', 'priority', '_scope_', *inspect.signature(CheckpointHook).parameters),
    'optim_wrapper.paramwise_cfg': (
        'custom_keys', 'lr_mult', 'decay_mult', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult',
        'flat_decay_mult', 'dwconv_decay_mult', 'dcn_offset_lr_mult', 'bypass_duplicate', 'layer_decay_rate',
        '_delete'),  # an error in MMPretrain's Twins configs
}

# Types that MMEngine looks up without a check that they exist.
TYPES_UNCHECKED = {'optim_wrapper.optimizer': roots.OPTIMIZERS,
                   **{f'{stage}_dataloader.collate_fn': roots.FUNCTIONS for stage in ('train', 'val', 'test')}}


def load_config(path: str, options: dict | None = None) -> Config:
    """The config with ``--cfg-options`` merged; names the nearest file when there is none by that name."""
    if '::' in path:
        config = get_package_config(path)
        config._cfg_dict['default_scope'] = config.get('default_scope') or 'mmpretrain'
    else:
        if not Path(path).is_file():
            raise FileNotFoundError(f'no such config: {path}{nearest(path, map(str, Path(path).parent.glob("*.py")))}')
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore', SyntaxWarning)
                config = Config.fromfile(path)
        except Exception as error:  # a config is Python: whatever it does wrong, its author wants its name
            raise ValueError(f'{path}: {type(error).__name__}: {error}') from error
    if options:
        merge_options(config, options)
    check_settings(config)
    return config


def require(config: Config, path: str, *names: str) -> None:
    """Refuses a config that lacks settings which the tool cannot do without."""
    missing = [name for name in names if not config.get(name)]
    if missing:
        raise ValueError(f'{path} defines no {", ".join(missing)}')


def merge_options(config: Config, options: dict) -> None:
    """Merges ``--cfg-options``; refuses a setting that nothing would read.

    A variable of a config file, such as ``data_root``, is one of those: what was made from it keeps its value.
    """
    for name in {option.split('.')[0] for option in options} - {*SETTINGS}:
        users = [f'{place}.{name}=...' for place, part in dicts_of(config.to_dict()) if place and name in part]
        if users:
            raise ValueError(f'--cfg-options {name}: is a variable of the config, read when it was loaded; set '
                             + ' '.join(users))
        raise ValueError(f'--cfg-options {name}: no setting that anything reads{nearest(name, SETTINGS)}')
    config.merge_from_dict(options)


def check_settings(config: Config) -> None:
    """Refuses misspelled settings, and keys and types that MMEngine does not check.

    >>> check_settings(Config(dict(custom_hook=[])))
    Traceback (most recent call last):
    ValueError: custom_hook: no setting that anything reads; did you mean 'custom_hooks'?
    """
    for name in config:
        if name not in SETTINGS and difflib.get_close_matches(name, SETTINGS, n=1, cutoff=0.88):
            raise ValueError(f'{name}: no setting that anything reads{nearest(name, SETTINGS)}')
    for path, registry in TYPES_UNCHECKED.items():
        part, scopes = _at(config, path), ('', f'{config.get("default_scope")}.')
        kind = part.get('type') if isinstance(part, dict) else None
        if isinstance(part, dict) and not callable(kind) and not any(registry.get(f'{at}{kind}') for at in scopes):
            raise ValueError(f'{path}: there is no {registry.name} {kind!r}'
                             f'{nearest(kind, dict(types_registered(registry.name)))}')
    for path, keys in KEYS_READ.items():
        value = _at(config, path)
        owner = config.get('optim_wrapper') if path.endswith('paramwise_cfg') else value
        for key in () if not isinstance(value, dict) or _has_own_type(owner) else value:
            if key not in keys:
                raise ValueError(f'{path}: {key} is not a key that MMEngine reads{nearest(key, keys)}; it reads '
                                 f'{", ".join(keys)}')


def _at(config: Config, path: str) -> Any:
    """The value of a config at ``a.b.c``; None where there is nothing."""
    value: Any = config._cfg_dict
    for part in path.split('.'):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _has_own_type(config: dict) -> bool:
    """Whether a type of the user's own reads the dictionary; it may read other keys."""
    kind = short_name(config.get('constructor') or config.get('type') or '')
    return kind not in ('', 'OptimWrapper', 'AmpOptimWrapper', 'DefaultOptimWrapperConstructor',
                        'DistillOptimWrapperConstructor', 'CheckpointHook', 'AtomicCheckpointHook')
