# ResNet-34 teaches ResNet-18 on ImageNet with PRKD and a tail average.
_base_ = [
    '../_base_/datasets/imagenet.py',
    '../_base_/models/imagenet/resnet34.py',
    '../_base_/models/imagenet/resnet18.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    '../_base_/distill_runtime.py',
    # one config serves every method: --method of the tools sets PRKD_METHOD
    '../_base_/methods/{{$PRKD_METHOD:prkd}}.py',
]
model = dict(
    architecture=_base_.resnet18,
    teacher=_base_.resnet34,
    teacher_ckpt='https://download.openmmlab.com/mmclassification/v0/resnet/resnet34_8xb32_in1k_20210831-f257d4e6.pth',
    teacher_config='configs/teachers/resnet34_imagenet.py',
)
