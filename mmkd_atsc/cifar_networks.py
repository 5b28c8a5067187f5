"""The one list of the literature's CIFAR networks: backbones, base configs, converter and tests all read it."""
import copy
from dataclasses import dataclass

from mmkd_atsc.errors.checks import check_choice, check_number

_X2 = (16, 32, 64, 128)
_X4 = (32, 64, 128, 256)


@dataclass(frozen=True)
class Network:
    """What one needs to know of a network to write its config.

    Args:
        backbone: Its backbone's config.
        head_channels: Inputs of its linear classifier.
        feature_shape: (C, H, W) of its last stage's output for a 32x32 image; where the channels differ from
            ``head_channels``, a closing 1x1 convolution comes between.
        parameters: Of the whole classifier with 100 classes.
    """
    backbone: dict
    head_channels: int
    feature_shape: tuple[int, int, int]
    parameters: int


def _resnet(depth: int, parameters: int, widths: tuple[int, ...] = ()) -> Network:
    backbone = dict(type='mmkd_atsc.CIFARResNet', depth=depth, **(dict(widths=widths) if widths else {}))
    channels = widths[-1] if widths else 64
    return Network(backbone, channels, (channels, 8, 8), parameters)


def _wrn(depth: int, widen_factor: int, parameters: int) -> Network:
    backbone = dict(type='mmkd_atsc.CIFARWideResNet', depth=depth, widen_factor=widen_factor)
    return Network(backbone, 64 * widen_factor, (64 * widen_factor, 8, 8), parameters)


def _vgg(depth: int, parameters: int) -> Network:
    return Network(dict(type='mmkd_atsc.CIFARVGG', depth=depth), 512, (512, 4, 4), parameters)


CIFAR_NETWORKS: dict[str, Network] = {
    'resnet8': _resnet(8, 83_892),
    'resnet14': _resnet(14, 181_108),
    'resnet20': _resnet(20, 278_324),
    'resnet32': _resnet(32, 472_756),
    'resnet44': _resnet(44, 667_188),
    'resnet56': _resnet(56, 861_620),
    'resnet110': _resnet(110, 1_736_564),
    'resnet116': _resnet(116, 1_833_780),
    'resnet8x4': _resnet(8, 1_233_540, _X4),
    'resnet32x4': _resnet(32, 7_433_860, _X4),
    'resnet110x2': _resnet(110, 6_911_220, _X2),
    'wrn_16_1': _wrn(16, 1, 180_916),
    'wrn_16_2': _wrn(16, 2, 703_284),
    'wrn_40_1': _wrn(40, 1, 569_780),
    'wrn_40_2': _wrn(40, 2, 2_255_156),
    'vgg8': _vgg(8, 3_965_028),
    'vgg11': _vgg(11, 9_277_284),
    'vgg13': _vgg(13, 9_462_180),
    'vgg16': _vgg(16, 14_774_436),
    'vgg19': _vgg(19, 20_086_692),
    'resnet50': Network(dict(type='mmkd_atsc.CIFARBottleneckResNet', depth=50), 2048, (2048, 4, 4), 23_705_252),
    'mobilenetv2': Network(dict(type='mmkd_atsc.CIFARMobileNetV2', widen_factor=0.5), 1280, (160, 2, 2), 812_836),
    'mobilenetv2x2': Network(dict(type='mmkd_atsc.CIFARMobileNetV2', widen_factor=1.0), 1280, (320, 2, 2), 2_353_060),
    'shufflenetv1': Network(dict(type='mmkd_atsc.CIFARShuffleNetV1', groups=3), 960, (960, 4, 4), 949_258),
    'shufflenetv2': Network(dict(type='mmkd_atsc.CIFARShuffleNetV2', widen_factor=1.0), 1024, (464, 4, 4), 1_355_528),
    'shufflenetv2x1_5': Network(dict(type='mmkd_atsc.CIFARShuffleNetV2', widen_factor=1.5), 1024, (704, 4, 4),
                                2_580_548),
}


def classifier(name: str, num_classes: int = 100) -> dict:
    """The config of MMPretrain's image classifier with one of :data:`CIFAR_NETWORKS`.

    >>> classifier('resnet32')['backbone']
    {'type': 'mmkd_atsc.CIFARResNet', 'depth': 32}
    >>> classifier('wrn_40_2', num_classes=10)['head']['num_classes']
    10
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
