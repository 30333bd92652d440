# The teacher ResNet-56 on CIFAR-10.
_base_ = [
    # PRKD_CIFAR10=cifar10_images reads the images from files
    '../_base_/datasets/{{$PRKD_CIFAR10:cifar10}}.py',
    '../_base_/models/small_images/resnet56.py',
    '../_base_/schedules/sgd_240e_bs64.py',
    '../_base_/default_runtime.py',
]
# base files cannot all define `model`, so the class count is set on the nets they define
_base_.resnet56.head.num_classes = 10
model = _base_.resnet56
