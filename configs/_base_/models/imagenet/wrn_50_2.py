# WRN-50-2 for 224x224 photos, taken from MMPretrain's config for ImageNet.
_base_ = []  # keeps MMEngine from treating this file as a lazy config
from mmengine.hub import get_config  # noqa: E402

wrn_50_2 = get_config('mmpretrain::wrn/wide-resnet50_8xb32_in1k.py').model
wrn_50_2._scope_ = 'mmpretrain'
wrn_50_2.head.loss.pop('loss_weight')  # each method sets its own
