# The teacher ResNet-34 on Caltech-256.
_base_ = [
    '../_base_/datasets/caltech256.py',
    '../_base_/models/imagenet/resnet34.py',
    '../_base_/schedules/sgd_240e_bs64.py',
    '../_base_/default_runtime.py',
]
# base files cannot all define `model`, so the class count is set on the nets they define
_base_.resnet34.head.num_classes = 257
model = _base_.resnet34
