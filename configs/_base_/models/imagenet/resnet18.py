# ResNet-18 for 224x224 photos, taken from MMPretrain's config for ImageNet.
_base_ = []  # keeps MMEngine from treating this file as a lazy config
from mmengine.hub import get_config  # noqa: E402

resnet18 = get_config('mmpretrain::resnet/resnet18_8xb32_in1k.py').model
resnet18._scope_ = 'mmpretrain'
resnet18.head.loss.pop('loss_weight')  # each method sets its own
