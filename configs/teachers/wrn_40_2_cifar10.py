# The teacher WRN-40-2 on CIFAR-10.
_base_ = [
    # PRKD_CIFAR10=cifar10_images reads the images from files
    '../_base_/datasets/{{$PRKD_CIFAR10:cifar10}}.py',
    '../_base_/models/small_images/wrn_40_2.py',
    '../_base_/schedules/sgd_240e_bs64.py',
    '../_base_/default_runtime.py',
]
# base files cannot all define `model`, so the class count is set on the nets they define
_base_.wrn_40_2.head.num_classes = 10
model = _base_.wrn_40_2
