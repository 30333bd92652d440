# ResNet-34 teaches ResNet-18 on Caltech-256 with PRKD and a tail average.
_base_ = [
    '../_base_/datasets/caltech256.py',
    '../_base_/models/imagenet/resnet34.py',
    '../_base_/models/imagenet/resnet18.py',
    '../_base_/schedules/sgd_240e_bs64.py',
    '../_base_/distill_runtime.py',
    # one config serves every method: --method of the tools sets PRKD_METHOD
    '../_base_/methods/{{$PRKD_METHOD:prkd}}.py',
]
# base files cannot all define `model`, so the class count is set on the nets they define
_base_.resnet34.head.num_classes = 257
_base_.resnet18.head.num_classes = 257
model = dict(
    architecture=_base_.resnet18,
    teacher=_base_.resnet34,
    teacher_ckpt='work_dirs/resnet34_caltech256',  # the latest checkpoint in it
    teacher_config='configs/teachers/resnet34_caltech256.py',
)
