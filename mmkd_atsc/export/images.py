"""The images that a student takes: the pipeline that makes them of files, their size and channels."""
from typing import Any

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine import registry as roots
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.utils import to_2tuple
from mmpretrain.datasets import CIFAR10, MNIST
from mmpretrain.registry import TRANSFORMS
from torch import Tensor

from mmkd_atsc.datasets import Digits
from mmkd_atsc.registry import class_of, short_name

# MMPretrain's inferencer reads files itself, and leaves this step out of a pipeline if it has this very name.
READER = 'LoadImageFromFile'
NO_FOLDER = 'data/test'  # of files, until a user names one

# Data sets that hold images in memory: their classes, the side of an image, and the transforms that give a file, which
# OpenCV reads in BGR, the same channels.
RGB = [dict(type='NumpyToPIL', to_rgb=True), dict(type='PILToNumpy')]
GREY = [dict(type='NumpyToPIL', to_rgb=True), dict(type='torchvision/Grayscale'), dict(type='PILToNumpy')]
ARRAYS: tuple = (((CIFAR10, Digits), 32, RGB), ((MNIST, ), 28, GREY))


def height_x_width(text: str) -> tuple[int, int]:
    """The value of ``--image-size``: '32', or '32x64'."""
    height, width = [int(side) for side in text.split('x') * (1 if 'x' in text else 2)]
    return height, width


def data_settings(config: dict, image_size: int | tuple[int, int] | None = None) -> dict:
    """The test settings of an exported student, whose pipeline begins with a file, as MMPretrain's inferencer needs it.

    Where the training's test data is arrays, it stays as validation data, on which ``tools/test.py`` scores.
    """
    dataset, loader = evaluated_dataset(config), config.get('test_dataloader') or config.get('val_dataloader') or {}
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
    files = dict(type='CustomDataset', data_root=NO_FOLDER, pipeline=_from_files(dataset, image_size) + pipeline)
    if not dataset:
        return settings('test', files)
    own = {**dataset, 'pipeline': pipeline} if dataset is loader['dataset'] else loader['dataset']
    if hasattr(class_of(own, registry=roots.DATASETS), '__getitems__'):  # ours, that fetch whole batches
        own = dict(type='RepeatDataset', times=1, dataset=own)
    return {**settings('test', files), **settings('val', own)}


def evaluated_dataset(config: dict) -> dict:
    """The data set that a config tests on, as :func:`innermost` finds it."""
    return innermost(config.get('test_dataloader') or config.get('val_dataloader') or {})


def innermost(loader: dict) -> dict:
    """The data set of a loader, out of its wrappers; of several (``ConcatDataset``) the first."""
    dataset = loader.get('dataset') or {}
    while dataset.get('dataset') or dataset.get('datasets'):
        dataset = dataset.get('dataset') or dataset['datasets'][0]
    return dataset


def keeps_training_data(config: dict) -> bool:
    """Whether the test data of an exported config names no folder yet, and its validation data is the training's."""
    return 'val_dataloader' in config and evaluated_dataset(config).get('data_root') == NO_FOLDER


def _from_files(dataset: dict, image_size: int | tuple[int, int] | None) -> list[dict]:
    """The first steps of a pipeline, from a file to what a data set of arrays holds."""
    kind: Any = class_of(dataset, registry=roots.DATASETS) or object
    side, steps = next((entry[1:] for entry in ARRAYS if issubclass(kind, entry[0])), (None, []))
    if dataset and side is None:
        raise ValueError(
            f'the test data ({short_name(dataset.get("type"))}) is not read by {READER}: give the config a '
            f'test_dataloader whose pipeline begins with {READER} (and, if the network learned from RGB arrays, '
            'NumpyToPIL with to_rgb=True and PILToNumpy)')
    if not image_size and side is None:
        raise ValueError('the config has no test data that says how large an image is; give --image-size')
    return [dict(type=READER), *steps, dict(type='Resize', scale=to_2tuple(image_size or side)[::-1])]


def run_pipeline(exported: Config, image: np.ndarray) -> Tensor:
    """What the pipeline of an exported config makes of an image (H, W, 3) in BGR, as a file holds it."""
    results = dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        for step in exported.test_dataloader.dataset.pipeline:
            if step['type'] != READER:
                results = TRANSFORMS.build(step)(results)
    return results['inputs']


def deployed_image_size(exported: Config) -> tuple[int, int]:
    """The height and width of what the pipeline of an exported config makes of every image."""
    first, other = (tuple(run_pipeline(exported, np.zeros((*size, 3), np.uint8)).shape[-2:])
                    for size in ((300, 400), (500, 350)))
    if first != other:
        raise ValueError('nothing in the test pipeline of the config says how large an image is; give --image-size')
    return first


def takes_rgb(exported: Config) -> bool:
    """Whether the network of an exported config, after its preprocessor, sees RGB rather than BGR."""
    blue, black = (run_pipeline(exported, np.full((64, 64, 3), colour, np.uint8)) for colour in ((255, 0, 0), 0))
    differs = (blue.float() - black.float()).abs().flatten(1).sum(1)
    return bool(differs[0] < differs[-1]) != bool((exported.model.get('data_preprocessor') or {}).get('to_rgb'))
