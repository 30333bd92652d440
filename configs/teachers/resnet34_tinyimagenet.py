# ResNet-34 alone on Tiny ImageNet.
_base_ = [
    '../_base_/datasets/tinyimagenet.py',
    '../_base_/models/resnet34_64x64.py',
    '../_base_/schedules/sgd_200e_bs256.py',
    '../_base_/default_runtime.py',
]
model = _base_.resnet34
