# The teacher ResNet-50 on CIFAR-100.
_base_ = [
    '../_base_/datasets/cifar100.py',
    '../_base_/models/small_images/resnet50.py',
    '../_base_/schedules/sgd_240e_bs64.py',
    '../_base_/default_runtime.py',
]
model = _base_.resnet50
