# The teacher ResNet-50 on ImageNet.
_base_ = [
    '../_base_/datasets/imagenet.py',
    '../_base_/models/imagenet/resnet50.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    '../_base_/default_runtime.py',
]
model = _base_.resnet50
