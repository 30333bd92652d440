# WRN-50-2 for photos of 224x224, as in MMPretrain's config for ImageNet.
_base_ = []  # a file that starts with an import is another kind to MMEngine
from mmengine.hub import get_config  # noqa: E402

wrn_50_2 = get_config('mmpretrain::wrn/wide-resnet50_8xb32_in1k.py').model
wrn_50_2._scope_ = 'mmpretrain'
wrn_50_2.head.loss.pop('loss_weight')  # which the method sets
