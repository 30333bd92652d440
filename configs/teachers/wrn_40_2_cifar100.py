# The teacher WRN-40-2 on CIFAR-100.
_base_ = [
    '../_base_/datasets/cifar100.py',
    '../_base_/models/small_images/wrn_40_2.py',
    '../_base_/schedules/sgd_240e_bs64.py',
    '../_base_/default_runtime.py',
]
model = _base_.wrn_40_2
