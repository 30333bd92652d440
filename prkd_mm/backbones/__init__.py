from .mobilenet_v2_cifar import MobileNetV2_CIFAR
from .mobilenet_v2_tinyimagenet import MobileNetV2_TinyImageNet
from .resnet_6n2 import ResNet6n2

__all__ = ['MobileNetV2_CIFAR', 'MobileNetV2_TinyImageNet', 'ResNet6n2']
