# ResNet-34 for photos of 224x224, as in MMPretrain's config for ImageNet.
_base_ = []  # a file that starts with an import is another kind to MMEngine
from mmengine.hub import get_config  # noqa: E402

resnet34 = get_config('mmpretrain::resnet/resnet34_8xb32_in1k.py').model
resnet34._scope_ = 'mmpretrain'
resnet34.head.loss.pop('loss_weight')  # which the method sets
