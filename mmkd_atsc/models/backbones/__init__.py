"""The CIFAR networks of the distillation literature, and its MobileNet for ImageNet, as MMPretrain backbones."""
from .cifar_bottleneck_resnet import CIFARBottleneckResNet
from .cifar_mobilenet_v2 import CIFARMobileNetV2
from .cifar_resnet import CIFARResNet
from .cifar_shufflenet_v1 import CIFARShuffleNetV1
from .cifar_shufflenet_v2 import CIFARShuffleNetV2
from .cifar_vgg import CIFARVGG
from .cifar_wide_resnet import CIFARWideResNet
from .mobilenet_v1 import MobileNetV1
from .staged_backbone import StagedBackbone

__all__ = ['CIFARBottleneckResNet', 'CIFARMobileNetV2', 'CIFARResNet', 'CIFARShuffleNetV1', 'CIFARShuffleNetV2',
           'CIFARVGG', 'CIFARWideResNet', 'MobileNetV1', 'StagedBackbone']
