# ResNet-20 alone on 20 classes of Tiny ImageNet.
_base_ = [
    '../_base_/datasets/tinyimagenet20.py',
    '../_base_/models/small_images/resnet20.py',
    '../_base_/schedules/sgd_30e_bs64.py',
    '../_base_/default_runtime.py',
]
# base files cannot all define `model`, so the class count is set on the nets they define
_base_.resnet20.head.num_classes = 20
model = _base_.resnet20
