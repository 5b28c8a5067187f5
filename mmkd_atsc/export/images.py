"""The images that a student takes: the pipeline that makes them of files, their size and channels."""
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine import registry as roots
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.datasets import CIFAR10, MNIST
from mmpretrain.registry import TRANSFORMS
from torch import Tensor

from mmkd_atsc.datasets import Digits
from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.registry import class_of, short_name

Size = tuple[int, int]  # height and width

# MMPretrain's inferencer reads files itself, and leaves this step out of a pipeline if it has this very name.
READER = 'LoadImageFromFile'

NO_FOLDER = 'data/test'  # of files, until a user names one

# Data sets that hold images instead of naming files: their classes, the side of an image, and how one that OpenCV has
# read (in BGR) gets their channels.
RGB = (dict(type='NumpyToPIL', to_rgb=True), dict(type='PILToNumpy'))
GREY = (dict(type='NumpyToPIL', to_rgb=True), dict(type='torchvision/Grayscale'), dict(type='PILToNumpy'))
ARRAYS = (((CIFAR10, Digits), 32, RGB), ((MNIST, ), 28, GREY))


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
    dataset = _test_loader(config).get('dataset') or {}
    while dataset.get('dataset') or dataset.get('datasets'):
        dataset = dataset.get('dataset') or dataset['datasets'][0]
    return dataset


def _test_loader(config: dict) -> dict:
    return config.get('test_dataloader') or config.get('val_dataloader') or {}


def data_settings(config: dict, image_size: int | str | Sequence[int] | None = None) -> dict:
    """The test settings of an exported student, whose pipeline begins with a file, as MMPretrain's inferencer needs it.

    Where the training's test data is arrays, it stays as validation data, on which ``tools/test.py`` scores.

    Args:
        config: The config of the training, as plain dicts.
        image_size: That of the images, where neither the pipeline nor the data set says it.
    """
    dataset, loader = evaluated_dataset(config), _test_loader(config)
    evaluator = config.get('test_evaluator') or config.get('val_evaluator') or dict(type='Accuracy')
    pipeline = [dict(step, type=READER) if class_of(step, registry=roots.TRANSFORMS) is LoadImageFromFile else step
                for step in dataset.get('pipeline') or ()]

    def settings(stage: str, dataset: dict) -> dict:
        loads = dict(batch_size=loader.get('batch_size', 32), num_workers=loader.get('num_workers', 2), dataset=dataset,
                     sampler=dict(type='DefaultSampler', shuffle=False), collate_fn=dict(type='default_collate'))
        return {f'{stage}_dataloader': loads, f'{stage}_evaluator': evaluator, f'{stage}_cfg': {}}

    if any(step['type'] == READER for step in pipeline):
        kept = ('val_dataloader', 'val_evaluator', 'val_cfg') if keeps_training_data(config) else ()
        return {**settings('test', {**dataset, 'pipeline': pipeline}), **{key: config[key] for key in kept}}
    if not any(short_name(step['type']) == 'PackInputs' for step in pipeline):
        pipeline.append(dict(type='PackInputs'))
    files = dict(type='CustomDataset', data_root=NO_FOLDER,
                 pipeline=_from_files(dataset, pipeline, height_and_width(image_size)))
    if not dataset:
        return settings('test', files)
    own = {**dataset, 'pipeline': pipeline} if dataset is loader['dataset'] else loader['dataset']
    if hasattr(class_of(own, registry=roots.DATASETS), '__getitems__'):  # ours, that fetch whole batches
        own = dict(type='RepeatDataset', times=1, dataset=own)
    return {**settings('test', files), **settings('val', own)}


def keeps_training_data(config: dict) -> bool:
    """Whether the test data of an exported config names no folder yet, and its validation data is the training's."""
    return 'val_dataloader' in config and evaluated_dataset(config).get('data_root') == NO_FOLDER


def _from_files(dataset: dict, pipeline: list, size: Size | None) -> list:
    """A pipeline from files to what a data set of arrays holds, and then its own."""
    kind = class_of(dataset, registry=roots.DATASETS) or object
    side, steps = next(((side, steps) for classes, side, steps in ARRAYS if issubclass(kind, classes)), (None, ()))
    if dataset and side is None:
        raise ValueError(
            f'the test data ({short_name(dataset.get("type"))}) is not read by {READER}, so what its network sees of a '
            f'file is not known: give the config a test_dataloader whose pipeline begins with {READER} (and, if the '
            'network learned from RGB arrays, NumpyToPIL with to_rgb=True and PILToNumpy)')
    size = size or height_and_width(side)
    if size is None:
        raise ValueError('the config has no test data that says how large an image is; give --image-size')
    return [dict(type=READER), *(dict(step) for step in steps), dict(type='Resize', scale=size[::-1]), *pipeline]


def run_pipeline(exported: Config, image: np.ndarray) -> Tensor:
    """What the pipeline of an exported config makes of an image (H, W, 3) in BGR, as a file holds it."""
    results = dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        for step in exported.test_dataloader.dataset.pipeline:
            if step['type'] != READER:
                results = TRANSFORMS.build(step)(results)
    return results['inputs']


def deployed_image_size(exported: Config, image_size: int | str | Sequence[int] | None = None) -> Size:
    """The given size, or that of all images which the pipeline of an exported config makes; refused if they differ."""
    given = height_and_width(image_size)
    made = {given} if given else {tuple(run_pipeline(exported, np.zeros((*size, 3), np.uint8)).shape[-2:])
                                  for size in ((300, 400), (500, 350))}
    if len(made) > 1:
        raise ValueError('nothing in the test pipeline of the config says how large an image is; give --image-size')
    return made.pop()


def takes_rgb(exported: Config) -> bool:
    """Whether the network of an exported config, after its preprocessor, sees RGB rather than BGR."""
    blue, black = (run_pipeline(exported, np.full((64, 64, 3), colour, np.uint8)) for colour in ((255, 0, 0), 0))
    differs = (blue.float() - black.float()).abs().flatten(1).sum(1)
    return bool(differs[0] < differs[-1]) != bool((exported.model.get('data_preprocessor') or {}).get('to_rgb'))
