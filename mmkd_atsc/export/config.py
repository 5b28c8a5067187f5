"""From the config of a distillation to that of its student alone, as plain MMPretrain reads it."""
import copy
from typing import Any

from mmengine import registry as roots
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope

from mmkd_atsc.errors.messages import dicts_of
from mmkd_atsc.models.algorithms import MultiTeacherDistill
from mmkd_atsc.models.build import resolve_network
from mmkd_atsc.models.classifier import Classifier
from mmkd_atsc.models.teacher import named_teachers
from mmkd_atsc.registry import class_of

from .images import data_settings

# What MMPretrain's preprocessor takes when it serves a deployed network.
CLS_PREPROCESSOR = ('mean', 'std', 'to_rgb', 'pad_size_divisor', 'pad_value', 'num_classes')
# Packages whose types MMPretrain finds by their short names or prefixes.
FOUND = ('mmengine', 'mmcv', 'mmpretrain', 'mmrazor', 'mmkd_atsc', 'torch', 'torchvision', '__main__')


def student_config(config: Config, image_size: int | tuple[int, int] | None = None,
                   algorithm: BaseModel | None = None) -> Config:
    """The config of the student alone: its model, and a test pipeline that takes image files and arrays.

    Without an ``architecture`` the whole model is the student; ``algorithm`` is the training's, if it is built already.
    """
    return Config(dict(default_scope='mmpretrain', model=student_model(config, algorithm),
                       **portable(data_settings(plain(config), image_size))))


def student_model(config: Config, algorithm: BaseModel | None = None) -> dict:
    """The model of :func:`student_config`, for which no test data is needed."""
    model = self_contained(config).model.to_dict()
    student = model.get('architecture', model)
    if student is not model and hasattr(class_of(student.get('head')), 'own_config'):
        built = (algorithm or build_training(config)).architecture
        if not built.head.owns:
            classifiers = {name: classifier_config(source.network, built.head.classifiers[name])
                           for name, source in named_teachers(model['teacher']).items()}
            student['head'] = built.head.own_config(student['head'], classifiers)
            if hasattr(built.neck, 'options'):
                student['neck'] = {**student['neck'], **built.neck.options()}
    preprocessor = (model.get('data_preprocessor') or plain(config.get('data_preprocessor'))
                    or student.get('data_preprocessor'))
    deployed = {key: value for key, value in student.items()
                if key not in ('train_cfg', 'data_preprocessor', 'pretrained', '_scope_')}
    if preprocessor:
        ours = str(preprocessor.get('type', 'mmkd_atsc.')).startswith('mmkd_atsc.')
        kept = {key: value for key, value in preprocessor.items()
                if (key in CLS_PREPROCESSOR if ours else key not in ('batch_augments', 'to_onehot'))}
        deployed['data_preprocessor'] = dict(kept, type='ClsDataPreprocessor') if ours else kept
    return portable(deployed)


def classifier_config(network: dict, built: Classifier) -> dict:
    """The config of a teacher's neck and head; of timm's network, what ATSC has made of it."""
    if 'head' in network:
        return dict(neck=network.get('neck'), head=network['head'])
    head = dict(type='LinearClsHead', num_classes=built.head.num_classes, in_channels=built.head.in_channels)
    return dict(neck=dict(type='GlobalAveragePooling') if built.neck is not None else None, head=head)


def self_contained(config: Config) -> Config:
    """A copy of a training's config in which its networks stand whole, without checkpoints of teachers."""
    if not isinstance(config.get('model'), dict):
        raise TypeError(f'the config must hold the model as a dict, not as a {type(config.get("model")).__name__}')
    model = plain(config.model)
    if 'architecture' in model:
        model['architecture'] = _inline(model['architecture'], 'student')
    if 'teacher' in model:
        teachers = {name: _inline(source.network, name) for name, source in named_teachers(model['teacher']).items()}
        model['teacher'] = teachers['teacher'] if list(teachers) == ['teacher'] else teachers
        if 'teacher_ckpt' in model:
            model['teacher_ckpt'] = None
        if issubclass(class_of(model, 'mmrazor') or object, MultiTeacherDistill):
            model['allow_random_teacher'] = True
    config = copy.deepcopy(config)
    config.model = model
    return config


def _inline(network: Any, role: str) -> dict:
    source = resolve_network(network, role)
    model = plain(source.model)
    return {**model, '_scope_': source.scope} if source.scope and 'cfg_path' in network else model


def build_training(config: Config) -> BaseModel:
    """The whole model of a training, its teachers included, with random weights."""
    config = self_contained(config)
    model = config.model.to_dict()
    if config.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', config.data_preprocessor)
    with DefaultScope.overwrite_default_scope(config.get('default_scope') or 'mmpretrain'):
        return MODELS.build(model)


def plain(value: Any) -> Any:
    """A copy as plain dicts, with types by their names, in which nothing fetches weights."""
    if isinstance(value, Config):
        value = value.to_dict()
    if isinstance(value, dict):
        fetches = any(part.get('type') == 'Pretrained' for _, part in dicts_of(value.get('init_cfg')))
        return {key: False if key == 'pretrained' and inner is True else plain(inner)
                for key, inner in value.items() if not (key == 'init_cfg' and fetches)}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(inner) for inner in value)
    return f'{value.__module__}.{value.__qualname__}' if isinstance(value, type) else value


def portable(value: Any) -> Any:
    """A copy that MMPretrain reads alone: types of other modules by their full names, no ``_scope_`` of our configs."""
    if not isinstance(value, dict):
        return type(value)(map(portable, value)) if isinstance(value, (list, tuple)) else value
    copied = {key: portable(inner) for key, inner in value.items()
              if not (key == '_scope_' and inner in ('mmpretrain', 'mmkd_atsc'))}
    for registry in (roots.MODELS, roots.DATASETS, roots.TRANSFORMS, roots.METRICS):
        kind = class_of(value, registry=registry)
        if kind and kind.__module__.split('.')[0] not in FOUND:
            copied['type'] = plain(kind)
    return copied
