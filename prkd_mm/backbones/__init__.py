from .mobilenet_v2_cifar import MobileNetV2_CIFAR
from .resnet_6n2 import ResNet6n2

__all__ = ['MobileNetV2_CIFAR', 'ResNet6n2']
