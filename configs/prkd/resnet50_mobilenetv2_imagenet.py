# ResNet-50 teaches MobileNetV2 on ImageNet with PRKD and a tail average.
_base_ = [
    '../_base_/datasets/imagenet.py',
    '../_base_/models/imagenet/resnet50.py',
    '../_base_/models/imagenet/mobilenetv2.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    '../_base_/distill_runtime.py',
    # one config serves every method: --method of the tools sets PRKD_METHOD
    '../_base_/methods/{{$PRKD_METHOD:prkd}}.py',
]
model = dict(
    architecture=_base_.mobilenetv2,
    teacher=_base_.resnet50,
    teacher_ckpt='https://download.openmmlab.com/mmclassification/v0/resnet/resnet50_8xb32_in1k_20210831-ea4938fc.pth',
    teacher_config='configs/teachers/resnet50_imagenet.py',
)
