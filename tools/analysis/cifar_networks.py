"""The literature's CIFAR networks by name, read from ``configs/_base_/models``."""
import copy
import runpy

from mmkd_atsc.errors.checks import check_choice, check_number
from mmkd_atsc.paths import CONFIGS

# Each file that defines a variable of its own name is one; the others are ImageNet's and the demo's.
CIFAR_NETWORKS: dict[str, dict] = {
    path.stem: variables[path.stem] for path in sorted((CONFIGS / '_base_' / 'models').glob('*.py'))
    if path.stem in (variables := runpy.run_path(str(path)))}


def classifier(name: str, num_classes: int = 100) -> dict:
    """The config of MMPretrain's image classifier with one of :data:`CIFAR_NETWORKS`.

    >>> classifier('resnet32')['backbone']
    {'type': 'mmkd_atsc.CIFARResNet', 'depth': 32}
    """
    network = copy.deepcopy(CIFAR_NETWORKS[check_choice('network', name, CIFAR_NETWORKS)])
    network['head']['num_classes'] = check_number('num_classes', num_classes, low=1, integer=True)
    return network


def linear_classifier(backbone: dict, in_channels: int, num_classes: int) -> dict:
    """The config of an image classifier: a backbone, global average pooling, one linear layer."""
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=backbone,
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=num_classes, in_channels=in_channels,
                  loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0)))
