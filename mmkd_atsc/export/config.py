"""From the config of a distillation to that of its student alone, as plain MMPretrain reads it."""
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config

from mmkd_atsc.errors.messages import dicts_of, types_registered
from mmkd_atsc.models.algorithms import MultiTeacherDistill
from mmkd_atsc.models.binding import bind_student
from mmkd_atsc.models.build import NetworkSource, build_network, resolve_network
from mmkd_atsc.models.classifier import split_classifier
from mmkd_atsc.models.teacher import named_teachers
from mmkd_atsc.registry import class_of, short_name

from .images import file_loader, height_and_width

# What MMPretrain's preprocessor takes, and what of it serves training only.
CLS_PREPROCESSOR = ('mean', 'std', 'to_rgb', 'pad_size_divisor', 'pad_value', 'num_classes')
TRAINING_ONLY = ('batch_augments', 'to_onehot')


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
    student, config = student_model(config), _without_scopes(without_pretrained(config))
    exported = dict(
        default_scope='mmpretrain', model=student, test_dataloader=file_loader(config, height_and_width(image_size)),
        test_evaluator=config.get('test_evaluator') or config.get('val_evaluator') or dict(type='Accuracy'),
        test_cfg=dict())
    return Config({**_custom_imports(config, exported), **exported})


def student_model(config: Config) -> dict:
    """The model of :func:`student_config`, for which no test data is needed."""
    config = without_pretrained(config)
    model = config.get('model')
    if not isinstance(model, dict):
        raise TypeError(f'the config must hold the model as a dict to export it, not as a {type(model).__name__}')
    student = model
    if 'architecture' in model:
        student = _source(model['architecture'], 'student').model
        own_shared_parts(student, model)
    preprocessor = (model.get('data_preprocessor') or config.get('data_preprocessor')
                    or student.get('data_preprocessor'))
    student = _without_scopes({key: value for key, value in student.items()
                               if key not in ('train_cfg', 'data_preprocessor', 'pretrained')})
    if preprocessor:
        student['data_preprocessor'] = _deployed_preprocessor(preprocessor)
    return student


def shared_head(head: dict | None) -> Any:
    """The class of a head that uses its teachers' classifiers; None for any other head.

    >>> shared_head(dict(type='mmkd_atsc.SharedClassifierHead')).__name__
    'SharedClassifierHead'
    """
    kind = class_of(head)
    return kind if hasattr(kind, 'own_config') else None


def own_shared_parts(student: dict, model: dict) -> None:
    """Writes into the student's config what binding it to the teachers of ``model`` finds: projectors, classifiers."""
    head = student.get('head')
    kind = shared_head(head)
    if not kind or kind.owned_classifiers(head):
        return
    sources = teacher_sources(model)
    with torch.random.fork_rng(devices=[]):  # a training that has begun must not notice
        built = build_network(_source(model['architecture'], 'student'), 'student')
        teachers = {name: split_classifier(build_network(source, name), name) for name, source in sources.items()}
        bind_student(built, teachers, dict.fromkeys(teachers, 1.0))
    if hasattr(built.neck, 'options'):
        student['neck'] = {**student['neck'], **built.neck.options()}
    student['head'] = kind.own_config(head, {name: dict(neck=source.model.get('neck'), head=source.model['head'])
                                             for name, source in sources.items()})


def teacher_sources(model: dict) -> dict[str, NetworkSource]:
    """The network of each teacher of an algorithm, without weights to fetch."""
    return {name: _source(teacher.network, name) for name, teacher in named_teachers(model['teacher']).items()}


def without_pretrained(value: Any) -> Any:
    """A copy as plain dicts, with types by their names, in which nothing fetches weights: the checkpoint has all.

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


def _without_scopes(value: Any) -> Any:
    """A copy without ``_scope_``, where a dict was inherited from, if MMPretrain's scope finds its types as well."""
    if isinstance(value, dict):
        return {key: _without_scopes(inner) for key, inner in value.items()
                if not (key == '_scope_' and inner in ('mmpretrain', 'mmkd_atsc'))}
    return type(value)(map(_without_scopes, value)) if isinstance(value, (list, tuple)) else value


def _deployed_preprocessor(preprocessor: dict) -> dict:
    kept = _without_scopes({key: value for key, value in preprocessor.items() if key not in TRAINING_ONLY})
    if not str(kept.get('type', 'mmkd_atsc.')).startswith('mmkd_atsc.'):
        return kept
    return {**{key: value for key, value in kept.items() if key in CLS_PREPROCESSOR}, 'type': 'ClsDataPreprocessor'}


def _custom_imports(config: dict, exported: dict) -> dict:
    """What imports the user's own modules that the student needs: the config's, and those of configs it names."""
    model, sources = config['model'], []
    if 'architecture' in model:
        sources.append(_source(model['architecture'], 'student'))
        if shared_head(exported['model'].get('head')):
            sources += teacher_sources(model).values()
    wanted = [*filter(None, [config.get('custom_imports'), *(source.custom_imports for source in sources)])]
    names = dict.fromkeys(name for one in wanted
                          for name in ([one['imports']] if isinstance(one['imports'], str) else one['imports']))
    types = {short_name(part.get('type')) for _, part in dicts_of(exported)}
    needed = [name for name in names if _is_needed(name, types)]
    lenient = any(one.get('allow_failed_imports', False) for one in wanted)
    return dict(custom_imports=dict(imports=needed, allow_failed_imports=lenient)) if needed else {}


def _is_needed(module: str, types: set[str]) -> bool:
    """Whether a module must be imported for the types; one that registers only others, say a loss, need not be."""
    if module.split('.')[0] in ('mmkd_atsc', 'mmrazor'):  # found by their prefix
        return False
    own = [name for name, entry in types_registered() if f'{entry.__module__}.'.startswith(f'{module}.')]
    return not own or any(short_name(name) in types for name in own)


def is_ours(model: dict) -> bool:
    """Whether an algorithm is of our kind, which takes built teachers and random ones.

    >>> is_ours(dict(type='mmkd_atsc.AdaptiveTeacherDistill')), is_ours(dict(type='mmrazor.SingleTeacherDistill'))
    (True, False)
    """
    return issubclass(class_of(model, 'mmrazor') or object, MultiTeacherDistill)


def forget_teacher_checkpoints(config: Config) -> None:
    """For scoring: the checkpoint to be scored holds the teachers too, their own files need not be at hand."""
    model = config.model
    if 'teacher' not in model:
        return
    if 'teacher_ckpt' in model:
        model.teacher_ckpt = None
    if is_ours(model):
        model.allow_random_teacher = True
    for teacher in named_teachers(model.teacher).values():
        if isinstance(teacher.network, dict) and teacher.network.get('pretrained'):
            teacher.network['pretrained'] = False  # else the zoo's weights would be fetched only to be replaced
