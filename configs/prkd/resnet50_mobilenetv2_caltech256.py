# ResNet-50 teaches MobileNetV2 on Caltech-256 with PRKD and a tail average.
_base_ = [
    '../_base_/datasets/caltech256.py',
    '../_base_/models/imagenet/resnet50.py',
    '../_base_/models/imagenet/mobilenetv2.py',
    '../_base_/schedules/sgd_240e_bs64.py',
    '../_base_/distill_runtime.py',
    # one config serves every method: --method of the tools sets PRKD_METHOD
    '../_base_/methods/{{$PRKD_METHOD:prkd}}.py',
]
# base files cannot all define `model`, so the class count is set on the nets they define
_base_.resnet50.head.num_classes = 257
_base_.mobilenetv2.head.num_classes = 257
model = dict(
    architecture=_base_.mobilenetv2,
    teacher=_base_.resnet50,
    teacher_ckpt='work_dirs/resnet50_caltech256',  # the latest checkpoint in it
    teacher_config='configs/teachers/resnet50_caltech256.py',
)
