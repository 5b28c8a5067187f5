"""What a user gives: networks by their names, and a config whose images have a size."""
import itertools
import os
import re
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple, Union

from mmengine.config import Config

from mmkd_atsc.registry import short_name

# Of data sets that hold images instead of naming files: what their types contain, and how large the images are.
SIDES = {'CIFAR': 32, 'Digits': 32, 'MNIST': 28}

# MMPretrain's crops take (height, width), MMCV's transforms (width, height).
HEIGHT_FIRST = ('RandomCrop', 'RandomResizedCrop')

# Up to this side, images are small (CIFAR's): authors choose other settings for them than for ImageNet's.
SMALL_SIDE = 64


class Named(NamedTuple):
    """A network: its config (a file, ``package::path``, a dict), and for a teacher its checkpoint.

    >>> Named('mmpretrain::resnet/resnet34_8xb32_in1k.py').stem
    'resnet34'
    """

    config: Union[str, dict]
    checkpoint: Optional[str] = None

    @property
    def stem(self) -> str:
        """A short name: the config's without its batch size, or a dict's backbone."""
        if isinstance(self.config, str):
            return re.split(r'_\d+xb\d+', Path(self.config).stem)[0]
        backbone = self.config.get('backbone', self.config)
        return short_name(backbone.get('model_name', backbone.get('type', 'network'))).lower()


class Place:
    """The folder of a new config, and how files are named from there."""

    def __init__(self, folder: Union[str, Path]) -> None:
        self.folder = folder

    def inherited(self, path: str) -> str:
        """An entry of ``_base_``."""
        return path if '::' in path else Path(os.path.relpath(path, self.folder)).as_posix()

    def network(self, config: Union[str, dict]) -> dict:
        """A network by its config; a file is looked for from the config's folder, wherever the tool is run."""
        if isinstance(config, dict):
            return config
        path = config if '::' in config else f'{{{{ fileDirname }}}}/{self.inherited(config)}'
        return dict(cfg_path=path)


def teacher_names(teachers: Sequence[Named]) -> List[str]:
    """A name for each teacher, by which losses and metrics are logged.

    >>> teacher_names([Named('a/swin-tiny_16xb64_in1k.py'), Named('my.py'), Named('other/my.py')])
    ['swin_tiny', 'my_0', 'my_1']
    """
    if len(teachers) == 1:
        return ['teacher']
    from mmkd_atsc.models.teacher import check_name  # not at import: it takes MMRazor's seconds
    stems = [re.sub(r'\W', '_', teacher.stem) for teacher in teachers]
    stems = [stem if stem.isidentifier() else f'net_{stem}' for stem in stems]
    names: List[str] = []
    for stem in stems:
        numbered = (f'{stem}_{number}' for number in itertools.count())
        names.append(next(name for name in numbered if name not in (*stems, *names)) if stems.count(stem) > 1 else stem)
        check_name(names[-1])
    return names


def training_size(config: Config) -> Tuple[int, int]:
    """Height and width of the images that a config trains on.

    >>> crop = dict(type='RandomResizedCrop', scale=160)
    >>> training_size(Config(dict(train_dataloader=dict(dataset=dict(type='ImageNet', pipeline=[crop])))))
    (160, 160)
    """
    dataset = config.train_dataloader.dataset
    while not dataset.get('pipeline') and (dataset.get('dataset') or dataset.get('datasets')):
        dataset = dataset.get('dataset') or dataset['datasets'][0]  # RepeatDataset, ConcatDataset, ...
    for step in reversed(dataset.get('pipeline') or ()):
        kind = str(step.get('type'))
        size = step.get('crop_size') if kind.endswith(('RandomCrop', 'CenterCrop')) else None
        if kind.endswith(('RandomResizedCrop', 'EfficientNetRandomCrop', 'Resize')):
            size = step.get('scale', step.get('crop_size'))
        sides = list(size) if isinstance(size, (list, tuple)) else [size] * 2
        if len(sides) == 2 and all(isinstance(side, int) and side > 0 for side in sides):
            height, width = sides if kind.endswith(HEIGHT_FIRST) else reversed(sides)
            return height, width
    side = next((side for name, side in SIDES.items() if name in str(dataset.get('type'))), 224)
    return side, side


def num_classes(model: dict) -> Optional[int]:
    """How many classes a classifier's config says that it knows."""
    parts = (model.get('head'), model, model.get('backbone'))  # VGG, LeNet, Inception classify in the backbone
    counts = (part.get('num_classes') for part in parts if isinstance(part, dict))
    return next((count for count in counts if count and count > 0), None)


def is_new_style(path: str) -> bool:
    """Whether a config imports its bases and types (``with read_base():``), so that no ``_base_`` can name it."""
    return '::' not in path and path.endswith('.py') and Path(path).is_file() and Config._is_lazy_import(path)


def flatten(path: str) -> str:
    """The text of a new-style config with its bases in it and its types by their names, for a file to inherit.

    What its types are is what MMEngine's registries call them: ``mmpretrain.ResNet``.
    """
    text = Config.fromfile(path).pretty_text
    packages = '|'.join(('mmengine', 'mmpretrain', 'mmrazor', 'mmkd_atsc'))
    text = re.sub(rf"type='({packages})(?:\.\w+)*\.(\w+)'", r"type='\1.\2'", text)
    return f'# {Path(path).name} with all that it inherits.\n' + re.sub(r"type='torch\.optim\.(?:\w+\.)*(\w+)'",
                                                                     r"type='\1'", text)
