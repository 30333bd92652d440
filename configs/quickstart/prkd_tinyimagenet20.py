# Real photographs on a CPU: 20 classes of Tiny ImageNet at 32x32, ResNet-20
# teaches ResNet-8.
_base_ = [
    '../_base_/datasets/tinyimagenet20.py',
    '../_base_/models/small_images/resnet20.py',
    '../_base_/models/small_images/resnet8.py',
    '../_base_/schedules/sgd_30e_bs64.py',
    '../_base_/distill_runtime.py',
    '../_base_/methods/{{$PRKD_METHOD:prkd}}.py',
]
# base files cannot all define `model`, so the class count is set on the nets they define
_base_.resnet20.head.num_classes = 20
_base_.resnet8.head.num_classes = 20
model = dict(
    architecture=_base_.resnet8,
    teacher=_base_.resnet20,
    teacher_ckpt='work_dirs/teacher_tinyimagenet20',  # the latest checkpoint in it
    teacher_config='configs/quickstart/teacher_tinyimagenet20.py',
)
