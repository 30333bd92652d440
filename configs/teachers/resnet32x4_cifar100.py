# The teacher ResNet-32x4 on CIFAR-100.
_base_ = [
    '../_base_/datasets/cifar100.py',
    '../_base_/models/small_images/resnet32x4.py',
    '../_base_/schedules/sgd_240e_bs64.py',
    '../_base_/default_runtime.py',
]
model = _base_.resnet32x4
