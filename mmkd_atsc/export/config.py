"""From the config of a distillation to that of its student alone, as plain MMPretrain reads it."""
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config

from mmkd_atsc.models.binding import bind_student
from mmkd_atsc.models.build import NetworkSource, build_network, resolve_network
from mmkd_atsc.models.classifier import split_classifier
from mmkd_atsc.models.teacher import named_teachers
from mmkd_atsc.paths import get_package_config
from mmkd_atsc.registry import MODELS

from .images import file_loader, height_and_width

# What of a preprocessor is for training.
TRAINING_ONLY = ('batch_augments', 'to_onehot')
CLS_PREPROCESSOR = ('mean', 'std', 'to_rgb', 'pad_size_divisor', 'pad_value', 'num_classes')


def student_config(config: Config, image_size: int | str | Sequence[int] | None = None) -> Config:
    """The config of the student alone: its model, and a test pipeline that takes image files and arrays.

    Args:
        config: The config of the training; without an ``architecture`` its whole model is the student.
        image_size: Side of the images, or height and width, where the config's test pipeline does not say it.

    >>> network = dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18), train_cfg=dict(augments=[]))
    >>> training = Config(dict(model=dict(type='mmkd_atsc.MultiTeacherDistill', architecture=network)))
    >>> student_config(training, image_size=224).model
    {'type': 'ImageClassifier', 'backbone': {'type': 'ResNet', 'depth': 18}}
    """
    config, student = _plain(without_pretrained(config)), student_model(config)
    return Config(dict(
        **_custom_imports(config, student), default_scope='mmpretrain', model=student,
        test_dataloader=file_loader(config, height_and_width(image_size)),
        test_evaluator=config.get('test_evaluator') or config.get('val_evaluator') or dict(type='Accuracy'),
        test_cfg=dict()))


def student_model(config: Config) -> dict:
    """The model of :func:`student_config`, for which no test data is needed."""
    config = without_pretrained(config)
    model, preprocessor = config.get('model'), config.get('data_preprocessor')
    if not isinstance(model, dict):
        raise TypeError(f'the config must hold the model as a dict to export it, not as a {type(model).__name__}')
    preprocessor = model.get('data_preprocessor') or preprocessor
    if 'architecture' in model:
        student = _source(model['architecture'], 'student').model
        own_shared_parts(student, model)
    else:
        student = model
    preprocessor = preprocessor or student.get('data_preprocessor')
    student = _plain({key: value for key, value in student.items()
                      if key not in ('train_cfg', 'data_preprocessor', 'pretrained')})
    if preprocessor:
        student['data_preprocessor'] = _deployed_preprocessor(preprocessor)
    return student


def _custom_imports(config: dict, student: dict) -> dict:
    """What imports the user's own modules that the student is made of: the config's, and those of configs it names."""
    model = config['model']
    networks = [model['architecture']] if 'architecture' in model else []
    if networks and owned_classifiers(student.get('head') or {}):
        networks += [teacher.network for teacher in named_teachers(model['teacher']).values()]
    wanted = [whole['custom_imports'] for whole in (config, *map(_whole_config, networks))
              if whole.get('custom_imports')]
    names = [name for one in wanted
             for name in ([one['imports']] if isinstance(one['imports'], str) else one['imports'])]
    # Types of ours and of MMRazor's say by a prefix where they are; a student without them needs neither.
    names = [name for name in dict.fromkeys(names) if name.split('.')[0] not in ('mmkd_atsc', 'mmrazor')]
    lenient = any(one.get('allow_failed_imports', False) for one in wanted)
    return dict(custom_imports=dict(imports=names, allow_failed_imports=lenient)) if names else {}


def _whole_config(network: Any) -> dict:
    """The config of which a network is the model, if it is named by one."""
    path = network if isinstance(network, str) else network.get('cfg_path')
    if path is None:
        return {}
    return get_package_config(path) if '::' in path else Config.fromfile(path)


def own_shared_parts(student: dict, model: dict) -> None:
    """Writes into the student's config what binding it to its teachers finds: projectors' options, classifiers.

    Args:
        student: The student's config.
        model: The algorithm's, with the teachers.
    """
    head = student.get('head') or {}
    kind = MODELS.get(head['type']) if head else None
    if not hasattr(kind, 'own_config') or owned_classifiers(head):
        return
    sources = teacher_sources(model)
    with torch.random.fork_rng(devices=[]):  # a training that has begun must not notice
        built = build_network(_source(model['architecture'], 'student'), 'student')
        teachers = {name: split_classifier(build_network(source, name), name) for name, source in sources.items()}
        bind_student(built, teachers, dict.fromkeys(teachers, 1.0))
    classifiers = {name: dict(neck=source.model.get('neck'), head=source.model['head'])
                   for name, source in sources.items()}
    student['head'] = built.head.own_config(head, classifiers)
    if hasattr(built.neck, 'options'):
        student['neck'] = {**student['neck'], **built.neck.options()}


def owned_classifiers(head: dict) -> dict | None:
    """What a head's config says of classifiers of its own, one or several.

    >>> owned_classifiers(dict(type='mmkd_atsc.SharedClassifierHead'))
    """
    return head.get('classifier') or head.get('classifiers')


def teacher_sources(model: dict) -> dict[str, NetworkSource]:
    """The network of each teacher of an algorithm, without weights to fetch."""
    return {name: _source(teacher.network, name) for name, teacher in named_teachers(model['teacher']).items()}


def without_pretrained(value: Any) -> Any:
    """A copy as plain dicts, with types by their names, in which nothing would fetch weights: the checkpoint has all.

    >>> without_pretrained(dict(init_cfg=dict(type='Pretrained', checkpoint='https://...'), pretrained=True, depth=18))
    {'pretrained': False, 'depth': 18}
    """
    if isinstance(value, Config):
        value = value.to_dict()
    if isinstance(value, dict):
        return {key: False if key == 'pretrained' and inner is True else without_pretrained(inner)
                for key, inner in value.items() if not (key == 'init_cfg' and _fetches(inner))}
    if isinstance(value, (list, tuple)):
        return type(value)(without_pretrained(inner) for inner in value)
    return f'{value.__module__}.{value.__qualname__}' if isinstance(value, type) else value


def _fetches(init_cfg: Any) -> bool:
    several = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    return any(isinstance(one, dict) and one.get('type') == 'Pretrained' for one in several)


def _source(network: Any, role: str) -> NetworkSource:
    source = resolve_network(without_pretrained(network), role)
    return source._replace(model=without_pretrained(source.model))


def _plain(value: Any) -> Any:
    """A copy without the notes of what package a dict was inherited from, where MMPretrain's own scope says as much."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()
                if not (key == '_scope_' and inner in ('mmpretrain', 'mmkd_atsc'))}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(inner) for inner in value)
    return value


def _deployed_preprocessor(preprocessor: dict) -> dict:
    kept = _plain({key: value for key, value in preprocessor.items() if key not in TRAINING_ONLY})
    if str(kept.get('type', 'mmkd_atsc.')).startswith('mmkd_atsc.'):
        kept = {key: value for key, value in kept.items() if key in CLS_PREPROCESSOR}
        kept['type'] = 'ClsDataPreprocessor'
    return kept


def forget_teacher_checkpoints(config: Config) -> None:
    """For scoring: the checkpoint to be scored holds the teachers too, their own files need not be at hand."""
    model = config.model
    if 'teacher' not in model:
        return
    if 'teacher_ckpt' in model:
        model.teacher_ckpt = None
    if str(model.type).startswith('mmkd_atsc.'):
        model.allow_random_teacher = True
    teachers = model.teacher
    named = {'type', 'cfg_path'} & set(teachers) if isinstance(teachers, dict) else True
    several = teachers if isinstance(teachers, (list, tuple)) else [teachers] if named else teachers.values()
    for teacher in several:
        if isinstance(teacher, dict) and teacher.get('pretrained'):
            teacher['pretrained'] = False  # else the zoo's weights would be fetched only to be replaced
