# The teacher ResNet-110 on CIFAR-100.
_base_ = [
    '../_base_/datasets/cifar100.py',
    '../_base_/models/small_images/resnet110.py',
    '../_base_/schedules/sgd_240e_bs64.py',
    '../_base_/default_runtime.py',
]
model = _base_.resnet110
