"""From the config of a distillation to that of its student alone, as plain MMPretrain reads it."""
from typing import Any, Dict, Optional, Sequence, Union

from mmengine.config import Config

from mmkd_atsc.models.build import NetworkSource, resolve_network
from mmkd_atsc.models.teacher import named_teachers
from mmkd_atsc.paths import get_package_config

from .images import file_loader, height_and_width, type_name

# Heads that use the classifiers of their teachers: the argument by which they own them, which `release` takes too,
# and what it is in terms of {teacher: dict(neck=..., head=...)}.
SHARED_HEADS = {
    'SharedClassifierHead': ('classifier', lambda classifiers: next(iter(classifiers.values()))),
    'MultiClassifierHead': ('classifiers', dict),
}

# What of a preprocessor is for training.
TRAINING_ONLY = ('batch_augments', 'to_onehot')
CLS_PREPROCESSOR = ('mean', 'std', 'to_rgb', 'pad_size_divisor', 'pad_value', 'num_classes')


def student_config(config: Config, image_size: Union[None, int, str, Sequence[int]] = None) -> Config:
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
        own_classifiers(student, model)
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
    if networks and classifiers_argument(student.get('head') or {}):
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


def own_classifiers(student: dict, model: dict) -> None:
    """Makes a head that uses its teachers' classifiers own copies of them, in the student's config.

    Args:
        student: The student's config.
        model: The algorithm's, with the teachers.
    """
    head = student.get('head') or {}
    argument = classifiers_argument(head)
    if argument and not head.get(argument):
        head[argument] = SHARED_HEADS[type_name(head)][1]({
            name: dict(neck=source.model.get('neck'), head=source.model['head'])
            for name, source in teacher_sources(model).items()})


def classifiers_argument(head: dict) -> Optional[str]:
    """The argument by which a head owns the classifiers of teachers, None for a head that has none of them.

    >>> classifiers_argument(dict(type='mmkd_atsc.SharedClassifierHead'))
    'classifier'
    """
    return SHARED_HEADS.get(type_name(head), (None, ))[0]


def teacher_sources(model: dict) -> Dict[str, NetworkSource]:
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
