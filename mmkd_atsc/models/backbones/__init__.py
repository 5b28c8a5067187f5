"""The CIFAR networks of the distillation literature, and its MobileNet for ImageNet, as MMPretrain backbones."""
from .cifar_resnet import CIFARBottleneckResNet, CIFARResNet, CIFARWideResNet
from .cifar_shufflenet import CIFARShuffleNetV1, CIFARShuffleNetV2
from .cifar_vgg import CIFARVGG
from .mobilenet import CIFARMobileNetV2, MobileNetV1
from .staged_backbone import StagedBackbone

__all__ = ['CIFARBottleneckResNet', 'CIFARMobileNetV2', 'CIFARResNet', 'CIFARShuffleNetV1', 'CIFARShuffleNetV2',
           'CIFARVGG', 'CIFARWideResNet', 'MobileNetV1', 'StagedBackbone']
