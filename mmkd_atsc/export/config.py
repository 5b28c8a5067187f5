"""From the config of a distillation to that of its student alone, as plain MMPretrain reads it."""
from typing import Any, Dict, Optional

from mmengine.config import Config

from mmkd_atsc.models.network import NetworkSource, resolve_network
from mmkd_atsc.models.teacher import named_teachers

# Heads that use the classifiers of their teachers: the argument by which they own them, which `release` takes too,
# and what it is in terms of {teacher: dict(neck=..., head=...)}.
SHARED_HEADS = {
    'SharedClassifierHead': ('classifier', lambda classifiers: next(iter(classifiers.values()))),
    'MultiClassifierHead': ('classifiers', dict),
}

# Data sets that hold images, in RGB, instead of naming files: what their names contain, and how large the images are.
IMAGE_SIZES = {'CIFAR': 32, 'Digits': 32}

# What of a preprocessor is for training.
TRAINING_ONLY = ('batch_augments', 'to_onehot')
CLS_PREPROCESSOR = ('mean', 'std', 'to_rgb', 'pad_size_divisor', 'pad_value', 'num_classes')


def student_config(config: Config, image_size: Optional[int] = None) -> Config:
    """The config of the student alone: its model, and a test pipeline that takes image files and arrays.

    Args:
        config: The config of the training; without an ``architecture`` its whole model is the student.
        image_size: Side of the images, where the config's test pipeline does not say it.

    >>> network = dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18), train_cfg=dict(augments=[]))
    >>> training = Config(dict(model=dict(type='mmkd_atsc.MultiTeacherDistill', architecture=network)))
    >>> student_config(training, image_size=224).model
    {'type': 'ImageClassifier', 'backbone': {'type': 'ResNet', 'depth': 18}}
    """
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
    return Config(dict(
        default_scope='mmpretrain', model=student, test_dataloader=_file_loader(config, image_size),
        test_evaluator=_plain(config.get('test_evaluator') or config.get('val_evaluator') or dict(type='Accuracy')),
        test_cfg=dict()))


def own_classifiers(student: dict, model: dict) -> None:
    """Makes a head that uses its teachers' classifiers own copies of them, in the student's config.

    Args:
        student: The student's config.
        model: The algorithm's, with the teachers.
    """
    head = student.get('head') or {}
    argument = classifiers_argument(head)
    if argument and not head.get(argument):
        head[argument] = SHARED_HEADS[_name(head)][1]({
            name: dict(neck=source.model.get('neck'), head=source.model['head'])
            for name, source in teacher_sources(model).items()})


def classifiers_argument(head: dict) -> Optional[str]:
    """The argument by which a head owns the classifiers of teachers, None for a head that has none of them.

    >>> classifiers_argument(dict(type='mmkd_atsc.SharedClassifierHead'))
    'classifier'
    """
    return SHARED_HEADS.get(_name(head), (None, ))[0]


def _name(head: dict) -> str:
    return str(head.get('type')).rpartition('.')[2]


def teacher_sources(model: dict) -> Dict[str, NetworkSource]:
    """The network of each teacher of an algorithm, without weights to fetch."""
    return {name: _source(teacher.network, name) for name, teacher in named_teachers(model['teacher']).items()}


def without_pretrained(value: Any) -> Any:
    """A copy as plain dicts in which nothing would fetch weights: all of them are in the checkpoint.

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
    return value


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


def _file_loader(config: dict, image_size: Optional[int]) -> dict:
    """A test data loader over image files, whose pipeline MMPretrain's inferencer takes (without the reading)."""
    loader = config.get('test_dataloader') or config.get('val_dataloader') or {}
    dataset = loader.get('dataset') or {}
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    pipeline = [_own_name(_plain(transform)) for transform in dataset.get('pipeline') or ()]
    if any(transform['type'] == 'LoadImageFromFile' for transform in pipeline):
        dataset = _plain({**dataset, 'pipeline': pipeline})
    else:
        size = image_size or _said_size(pipeline) or next(
            (size for name, size in IMAGE_SIZES.items() if name in str(dataset.get('type'))), None)
        if size is None:
            raise ValueError('nothing in the test data of the config says how large an image is; give --image-size')
        # Files, and by OpenCV's convention arrays too, are in BGR; a network that read none has only ever seen RGB.
        swap = [dict(type='NumpyToPIL', to_rgb=True), dict(type='PILToNumpy')] if dataset else []
        dataset = dict(type='CustomDataset', data_root='data/test', pipeline=[
            dict(type='LoadImageFromFile'), *swap, dict(type='Resize', scale=(size, size)), dict(type='PackInputs')])
    return dict(batch_size=loader.get('batch_size', 32), num_workers=loader.get('num_workers', 2), dataset=dataset,
                sampler=dict(type='DefaultSampler', shuffle=False), collate_fn=dict(type='default_collate'))


def _own_name(transform: dict) -> dict:
    """The inferencer looks for ``LoadImageFromFile`` by that very name, and would read files twice by another."""
    package, _, name = str(transform['type']).rpartition('.')
    return {**transform, 'type': name} if package in ('mmpretrain', 'mmcv') else transform


def _said_size(pipeline: list) -> Optional[int]:
    for transform in reversed(pipeline):
        size = transform.get('crop_size') or (transform['type'] == 'Resize' and transform.get('scale'))
        if size:
            return size if isinstance(size, int) else max(size)
    return None


def deployed_size(student: Config) -> Optional[int]:
    """The side of the images that a student's own pipeline gives, None where they are of any size."""
    return _said_size(student.test_dataloader.dataset.pipeline)


def takes_rgb(student: Config) -> bool:
    """Whether the student's network, after its preprocessor, sees RGB rather than BGR."""
    swapped = any(transform['type'] == 'NumpyToPIL' for transform in student.test_dataloader.dataset.pipeline)
    return swapped != bool((student.model.get('data_preprocessor') or {}).get('to_rgb'))
