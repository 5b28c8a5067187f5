"""The images that a student takes: their size and channels, and the pipeline that makes them of files."""
import re
from collections.abc import Sequence
from typing import Any

from mmengine.registry import DATASETS
from mmpretrain.datasets import CIFAR10, MNIST

from mmkd_atsc.datasets import Digits
from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.registry import class_of, short_name

Size = tuple[int, int]  # height and width

READER = 'LoadImageFromFile'

# Data sets that hold images instead of naming files: their classes, the side of an image, and how one that OpenCV has
# read (in BGR) gets their channels.
RGB = (dict(type='NumpyToPIL', to_rgb=True), dict(type='PILToNumpy'))
GREY = (dict(type='NumpyToPIL', to_rgb=True), dict(type='torchvision/Grayscale'), dict(type='PILToNumpy'))
ARRAYS = (((CIFAR10, Digits), 32, RGB), ((MNIST, ), 28, GREY))

# Transforms that reverse the channels where an option is set: the option, and its default.
FLIPS = {**dict.fromkeys(('NumpyToPIL', 'ToPIL'), ('to_rgb', False)),
         **dict.fromkeys(('PILToNumpy', 'ToNumpy'), ('to_bgr', False)), 'Normalize': ('to_rgb', True)}


def height_and_width(image_size: int | str | Sequence[int] | None) -> Size | None:
    """The size that a user gives: a side, a height and a width, or either as text; None stays None.

    >>> height_and_width(32), height_and_width('32x64'), height_and_width((32, 64))
    ((32, 32), (32, 64), (32, 64))
    """
    if image_size is None:
        return None
    sides: Any = image_size
    if isinstance(sides, str):
        sides = [int(side) for side in sides.split('x')] if re.fullmatch(r'\d+(x\d+)?', sides) else ()
    sides = tuple(sides) if isinstance(sides, (list, tuple)) else (sides, )
    if len(sides) not in (1, 2):
        raise ValueError(f'image_size={image_size!r} must be a side, or a height and a width (as text: 32x64)')
    for side in sides:
        check_number('image_size', side, 1, integer=True)
    return sides[0], sides[-1]


def evaluated_dataset(config: dict) -> dict:
    """The data set that a config tests on, out of its wrappers; of several (``ConcatDataset``) the first."""
    dataset = (config.get('test_dataloader') or config.get('val_dataloader') or {}).get('dataset') or {}
    while dataset.get('dataset') or dataset.get('datasets'):
        dataset = dataset.get('dataset') or dataset['datasets'][0]
    return dataset


def configured_image_size(dataset: dict) -> Size | None:
    """The size of a data set's images, by its pipeline or its class; None where neither says it.

    >>> steps = [dict(type='Resize', scale=(64, 32)), dict(type='PackInputs')]
    >>> configured_image_size(dict(type='CustomDataset', pipeline=steps))
    (32, 64)
    """
    for step in reversed(dataset.get('pipeline') or ()):
        name = short_name(step.get('type'))
        size = step.get('crop_size') or {
            'Resize': None if step.get('keep_ratio') else step.get('scale'), 'Pad': step.get('size'),
            'torchvision/CenterCrop': step.get('size')}.get(name)
        sides = height_and_width(size or None)
        if sides is not None:
            # MMCV's own have the width first, those of MMPretrain and torchvision the height.
            return sides[::-1] if name in ('Resize', 'CenterCrop', 'Pad') else sides
    return height_and_width(_arrays(dataset)[0])


def _arrays(dataset: dict) -> tuple[int | None, tuple[dict, ...]]:
    """The side of the images that a data set holds, and the steps to their channels; None for one of files."""
    kind = class_of(dataset, registry=DATASETS) or object
    return next(((side, steps) for classes, side, steps in ARRAYS if issubclass(kind, classes)), (None, ()))


def file_loader(config: dict, size: Size | None) -> dict:
    """A test data loader over image files, whose pipeline MMPretrain's inferencer takes (without the reading).

    ``size`` is that of the images, where neither the pipeline nor the data set says it.
    """
    loader, dataset = config.get('test_dataloader') or config.get('val_dataloader') or {}, evaluated_dataset(config)
    pipeline = [_own_name(step) for step in dataset.get('pipeline') or ()]
    if any(step['type'] == READER for step in pipeline):
        dataset = {**dataset, 'pipeline': pipeline}
    else:
        dataset = dict(type='CustomDataset', data_root='data/test', pipeline=_from_files(dataset, pipeline, size))
    return dict(batch_size=loader.get('batch_size', 32), num_workers=loader.get('num_workers', 2), dataset=dataset,
                sampler=dict(type='DefaultSampler', shuffle=False), collate_fn=dict(type='default_collate'))


def _own_name(step: dict) -> dict:
    """The inferencer looks for ``LoadImageFromFile`` by that very name, and would read files twice by another."""
    package, _, name = str(step['type']).rpartition('.')
    wanted = package if name != READER else package.split('.')[0]
    return {**step, 'type': name} if wanted in ('mmpretrain', 'mmcv') else step


def _from_files(dataset: dict, pipeline: list, size: Size | None) -> list:
    """A pipeline from files to what a data set of arrays holds, and then its own."""
    side, steps = _arrays(dataset)
    if dataset and side is None:
        raise ValueError(
            f'the test data ({short_name(dataset.get("type"))}) is not read by {READER}, so what its network sees of a '
            f'file is not known: give the config a test_dataloader whose pipeline begins with {READER} (and, if the '
            'network learned from RGB arrays, NumpyToPIL with to_rgb=True and PILToNumpy)')
    size = size or height_and_width(side)
    if size is None:
        raise ValueError('the config has no test data that says how large an image is; give --image-size')
    packs = any(short_name(step['type']) == 'PackInputs' for step in pipeline)
    return [dict(type=READER), *map(dict, steps), dict(type='Resize', scale=size[::-1]), *pipeline,
            *([] if packs else [dict(type='PackInputs')])]


def takes_rgb(student: dict) -> bool:
    """Whether a deployed student's network, after its preprocessor, sees RGB rather than BGR."""
    rgb = bool((student['model'].get('data_preprocessor') or {}).get('to_rgb'))
    for step in evaluated_dataset(student).get('pipeline') or ():
        option, default = FLIPS.get(short_name(step.get('type')), (None, False))
        rgb ^= bool(step.get(option, default))
    return rgb
