"""Reads and builds the networks that a config names as student or teacher."""
import copy
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope

from mmkd_atsc.paths import get_package_config
from mmkd_atsc.registry import MODELS


class NetworkSource(NamedTuple):
    """A network's config, the scope of its types, its published weights, and the imports that register its types."""

    model: dict
    scope: str | None = None
    weights: str | None = None
    custom_imports: dict | None = None


def resolve_network(config: dict | str, role: str) -> NetworkSource:
    """Reads a network's config.

    Args:
        config: ``dict(type=...)``; or ``package::path`` or a config file; or ``dict(cfg_path=path, pretrained=False,
            **overrides)``.
        role: Its name in messages.
    """
    if not isinstance(config, (dict, str)):
        raise TypeError(f'{role} must be a config dict, a built model or a path, not a {type(config).__name__}')
    given: dict = dict(cfg_path=config) if isinstance(config, str) else copy.deepcopy(config)
    if 'type' in given:
        # mmpretrain.ImageClassifier names its parts without a prefix, whatever the default scope is.
        prefix = str(given['type']).rpartition('.')[0]
        return NetworkSource(given, scope=prefix or None)
    if 'cfg_path' not in given:
        raise ValueError(f'{role} needs a type, or a cfg_path (package::path or a config file); '
                         f'its keys are {", ".join(given)}')
    path, pretrained, weights = given.pop('cfg_path'), given.pop('pretrained', False), None
    if '::' in path:
        package = path.split('::')[0]
        scope = None if package == 'mmkd_atsc' else package
        with DefaultScope.overwrite_default_scope(scope):
            whole = get_package_config(path, pretrained)
        weights = whole.get('model_path')
    else:
        if pretrained:
            raise ValueError(f'{role}: pretrained=True needs a cfg_path of the form package::path, not {path}')
        if not Path(path).is_file():
            raise FileNotFoundError(f'{role}: no such config: {Path(path).absolute()}')
        whole = Config.fromfile(path)
        scope = whole.get('default_scope')
    if 'model' not in whole:
        raise ValueError(f'{role}: {path} defines no model')
    model = whole.model.to_dict() if isinstance(whole.model, ConfigDict) else whole.model
    if whole.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', whole.data_preprocessor.to_dict())
    model = Config._merge_a_into_b(given, model)
    return NetworkSource(model, scope or str(model.get('type', '')).rpartition('.')[0] or None, weights,
                         whole.get('custom_imports'))


def build_network(network: NetworkSource | BaseModel | dict | str, role: str) -> BaseModel:
    """Builds a network, or returns a built one; refuses anything that is not a model."""
    if isinstance(network, BaseModel):
        return network
    source = network if isinstance(network, NetworkSource) else resolve_network(network, role)
    with DefaultScope.overwrite_default_scope(source.scope):
        model = MODELS.build(copy.deepcopy(source.model))
    if not isinstance(model, BaseModel):
        raise TypeError(f'{role} must be an mmengine model such as mmpretrain.ImageClassifier, '
                        f'not {type(model).__name__}')
    return model
