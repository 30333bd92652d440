# ResNet-34 teaches MobileNetV2 on Tiny ImageNet with PRKD and a tail average.
_base_ = [
    '../_base_/datasets/tinyimagenet.py',
    '../_base_/models/small_images/resnet34.py',
    '../_base_/models/small_images/mobilenetv2_tinyimagenet.py',
    '../_base_/schedules/sgd_200e_bs256.py',
    '../_base_/distill_runtime.py',
    # one config serves every method: --method of the tools sets PRKD_METHOD
    '../_base_/methods/{{$PRKD_METHOD:prkd}}.py',
]
# base files cannot all define `model`, so the class count is set on the nets they define
_base_.resnet34.head.num_classes = 200
_base_.mobilenetv2_tinyimagenet.head.num_classes = 200
model = dict(
    architecture=_base_.mobilenetv2_tinyimagenet,
    teacher=_base_.resnet34,
    teacher_ckpt='work_dirs/resnet34_tinyimagenet',  # the latest checkpoint in it
    teacher_config='configs/teachers/resnet34_tinyimagenet.py',
)
