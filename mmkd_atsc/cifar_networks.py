"""The list of the literature's CIFAR networks, which base configs, converter, tools and tests read."""
import copy
from typing import NamedTuple

from mmkd_atsc.errors.checks import check_choice, check_number


class Network(NamedTuple):
    """The config of a network's backbone, and the inputs of its linear classifier."""
    backbone: dict
    head_channels: int


def _resnet(depth: int, widths: tuple[int, ...] = ()) -> Network:
    backbone = dict(type='mmkd_atsc.CIFARResNet', depth=depth, **(dict(widths=widths) if widths else {}))
    return Network(backbone, widths[-1] if widths else 64)


def _wrn(depth: int, widen_factor: int) -> Network:
    return Network(dict(type='mmkd_atsc.CIFARWideResNet', depth=depth, widen_factor=widen_factor), 64 * widen_factor)


CIFAR_NETWORKS: dict[str, Network] = {
    **{f'resnet{depth}': _resnet(depth) for depth in (8, 14, 20, 32, 38, 44, 56, 110, 116)},
    'resnet8x4': _resnet(8, (32, 64, 128, 256)),
    'resnet32x4': _resnet(32, (32, 64, 128, 256)),
    **{f'resnet{depth}x2': _resnet(depth, (16, 32, 64, 128)) for depth in (14, 38, 110)},
    **{f'wrn_{depth}_{factor}': _wrn(depth, factor) for depth in (16, 40) for factor in (1, 2)},
    **{f'vgg{depth}': Network(dict(type='mmkd_atsc.CIFARVGG', depth=depth), 512) for depth in (8, 11, 13, 16, 19)},
    'resnet50': Network(dict(type='mmkd_atsc.CIFARBottleneckResNet', depth=50), 2048),
    'mobilenetv2': Network(dict(type='mmkd_atsc.CIFARMobileNetV2', widen_factor=0.5), 1280),
    'mobilenetv2x2': Network(dict(type='mmkd_atsc.CIFARMobileNetV2', widen_factor=1.0), 1280),
    'shufflenetv1': Network(dict(type='mmkd_atsc.CIFARShuffleNetV1', groups=3), 960),
    'shufflenetv2': Network(dict(type='mmkd_atsc.CIFARShuffleNetV2', widen_factor=1.0), 1024),
    'shufflenetv2x1_5': Network(dict(type='mmkd_atsc.CIFARShuffleNetV2', widen_factor=1.5), 1024),
}


def classifier(name: str, num_classes: int = 100) -> dict:
    """The config of MMPretrain's image classifier with one of :data:`CIFAR_NETWORKS`.

    >>> classifier('resnet32')['backbone']
    {'type': 'mmkd_atsc.CIFARResNet', 'depth': 32}
    """
    network = CIFAR_NETWORKS[check_choice('network', name, CIFAR_NETWORKS)]
    check_number('num_classes', num_classes, low=1, integer=True)
    return linear_classifier(copy.deepcopy(network.backbone), network.head_channels, num_classes)


def linear_classifier(backbone: dict, in_channels: int, num_classes: int) -> dict:
    """The config of an image classifier: a backbone, global average pooling, one linear layer."""
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=backbone,
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=num_classes, in_channels=in_channels,
                  loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0)))
