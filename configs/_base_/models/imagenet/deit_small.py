# DeiT-small for 224x224 photos, taken from MMPretrain's config for ImageNet.
_base_ = []  # keeps MMEngine from treating this file as a lazy config
from mmengine.hub import get_config  # noqa: E402

deit_small = get_config('mmpretrain::deit/deit-small_4xb256_in1k.py').model
deit_small._scope_ = 'mmpretrain'
deit_small.pop('train_cfg')  # Mixup and CutMix, which the data here do not use
