# MobileNetV2 for 224x224 photos, taken from MMPretrain's config for ImageNet.
_base_ = []  # keeps MMEngine from treating this file as a lazy config
from mmengine.hub import get_config  # noqa: E402

mobilenetv2 = get_config('mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py').model
mobilenetv2._scope_ = 'mmpretrain'
mobilenetv2.head.loss.pop('loss_weight')  # each method sets its own
