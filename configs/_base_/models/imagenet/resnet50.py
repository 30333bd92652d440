# ResNet-50 for photos of 224x224, as in MMPretrain's config for ImageNet.
_base_ = []  # a file that starts with an import is another kind to MMEngine
from mmengine.hub import get_config  # noqa: E402

resnet50 = get_config('mmpretrain::resnet/resnet50_8xb32_in1k.py').model
resnet50._scope_ = 'mmpretrain'
resnet50.head.loss.pop('loss_weight')  # which the method sets
