# DeiT-small teaches ResNet-18 on ImageNet with PRKD and a tail average.
_base_ = [
    '../_base_/datasets/imagenet.py',
    '../_base_/models/imagenet/deit_small.py',
    '../_base_/models/imagenet/resnet18.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    '../_base_/distill_runtime.py',
    # one config serves every method: --method of the tools sets PRKD_METHOD
    '../_base_/methods/{{$PRKD_METHOD:prkd}}.py',
]
model = dict(
    architecture=_base_.resnet18,
    teacher=_base_.deit_small,
    teacher_ckpt='https://download.openmmlab.com/mmclassification/v0/deit/deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth',
    teacher_config='configs/teachers/deit_small_imagenet.py',
)
