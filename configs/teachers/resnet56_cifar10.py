# ResNet-56 alone on CIFAR-10.
_base_ = [
    '../_base_/datasets/{{$PRKD_CIFAR10:cifar10}}.py',
    '../_base_/models/small_images/resnet56.py',
    '../_base_/schedules/sgd_240e_bs64.py',
    '../_base_/default_runtime.py',
]
_base_.resnet56.head.num_classes = 10
model = _base_.resnet56
