# MobileNetV2 for photos of 224x224, as in MMPretrain's config for ImageNet.
_base_ = []  # a file that starts with an import is another kind to MMEngine
from mmengine.hub import get_config  # noqa: E402

mobilenetv2 = get_config('mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py').model
mobilenetv2._scope_ = 'mmpretrain'
mobilenetv2.head.loss.pop('loss_weight')  # which the method sets
