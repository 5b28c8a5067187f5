"""Reads configs, and refuses settings that nothing would read."""
import difflib
import functools
import inspect
from pathlib import Path

from mmengine.config import Config

from mmkd_atsc.paths import get_package_config

from .checks import nearest
from .messages import dicts_of


@functools.cache
def settings() -> list[str]:
    """The runner's arguments, and what MMEngine or our tools read beside them."""
    from mmengine.runner import Runner  # imports PyTorch
    return [*inspect.signature(Runner.__init__).parameters, 'activation_checkpointing', 'compile',
            'efficient_conv_bn_eval', 'find_unused_parameters', 'model_wrapper_cfg', 'runner_type', 'sync_bn']


def load_config(path: str, options: dict | None = None) -> Config:
    """The config with ``--cfg-options`` merged; names the nearest file when there is none by that name."""
    if '::' in path:
        config = get_package_config(path)
        config._cfg_dict['default_scope'] = config.get('default_scope') or 'mmpretrain'
    elif not Path(path).is_file():
        siblings = [str(p) for p in Path(path).parent.glob('*.py')]
        raise FileNotFoundError(f'no such config: {path}{nearest(path, siblings)}')
    else:
        try:
            config = Config.fromfile(path)
        except Exception as error:  # a config is Python and may raise anything
            raise ValueError(f'{path}: {type(error).__name__}: {error}') from error
    if options:
        merge_options(config, options)
    check_settings(config)
    return config


def require(config: Config, path: str, *names: str) -> None:
    """Refuses a config without settings that a tool needs."""
    missing = [name for name in names if not config.get(name)]
    if missing:
        raise ValueError(f'{path} defines no {", ".join(missing)}')


def merge_options(config: Config, options: dict) -> None:
    """Merges ``--cfg-options``; a setting that nothing would read is refused, such as the variable of a config file."""
    for name in {option.split('.')[0] for option in options} - {*settings()}:
        users = [f'{place}.{name}=...' for place, part in dicts_of(config.to_dict()) if place and name in part]
        if users:  # what was made from the variable keeps its value
            raise ValueError(f'--cfg-options {name}: is a variable of the config, read when it was loaded; set '
                             + ' '.join(users))
        raise ValueError(f'--cfg-options {name}: no setting that anything reads{nearest(name, settings())}')
    config.merge_from_dict(options)


def check_settings(config: Config) -> None:
    """Refuses names that are nearly a setting's; any other name is a variable."""
    for name in config:
        close = [] if name in settings() else difflib.get_close_matches(name, settings(), n=1, cutoff=0.88)
        if close:
            raise ValueError(f'{name}: no setting that anything reads; did you mean {close[0]!r}?')
