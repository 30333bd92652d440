# The teacher WRN-40-2 on Tiny ImageNet.
_base_ = [
    '../_base_/datasets/tinyimagenet.py',
    '../_base_/models/small_images/wrn_40_2.py',
    '../_base_/schedules/sgd_200e_bs256.py',
    '../_base_/default_runtime.py',
]
# base files cannot all define `model`, so the class count is set on the nets they define
_base_.wrn_40_2.head.num_classes = 200
model = _base_.wrn_40_2
