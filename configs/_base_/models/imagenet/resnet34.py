# ResNet-34 for 224x224 photos, taken from MMPretrain's config for ImageNet.
_base_ = []  # keeps MMEngine from treating this file as a lazy config
from mmengine.hub import get_config  # noqa: E402

resnet34 = get_config('mmpretrain::resnet/resnet34_8xb32_in1k.py').model
resnet34._scope_ = 'mmpretrain'
resnet34.head.loss.pop('loss_weight')  # each method sets its own
