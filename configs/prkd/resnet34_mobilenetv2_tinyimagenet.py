# ResNet-34 teaches MobileNetV2 on Tiny ImageNet, by PRKD with a tail average.
_base_ = [
    '../_base_/datasets/tinyimagenet.py',
    '../_base_/models/small_images/resnet34.py',
    '../_base_/models/small_images/mobilenetv2_tinyimagenet.py',
    '../_base_/schedules/sgd_200e_bs256.py',
    '../_base_/distill_runtime.py',
    '../_base_/methods/{{$PRKD_METHOD:prkd}}.py',
]
_base_.resnet34.head.num_classes = 200
_base_.mobilenetv2_tinyimagenet.head.num_classes = 200
model = dict(
    architecture=_base_.mobilenetv2_tinyimagenet,
    teacher=_base_.resnet34,
    teacher_ckpt='work_dirs/resnet34_tinyimagenet',  # its latest checkpoint
    teacher_config='configs/teachers/resnet34_tinyimagenet.py',
)
