# Trial: WRN-16-2 teaches ResNet-8, which underfits after eight epochs; 25,000 training images of
# 100 classes, 30,000 test images.
_base_ = [
    '../_base_/datasets/tinyimagenet100.py',
    '../_base_/models/small_images/wrn_16_2.py',
    '../_base_/models/small_images/resnet8.py',
    '../_base_/schedules/sgd_8e_bs64.py',
    '../_base_/distill_runtime.py',
    '../_base_/methods/{{$PRKD_METHOD:prkd}}.py',
]
model = dict(
    architecture=_base_.resnet8,
    teacher=_base_.wrn_16_2,
    teacher_ckpt='docs/results/teacher_tinyimagenet100.pth',
    teacher_config='configs/trials/teacher_tinyimagenet100.py',
)
default_hooks = dict(tail_average=dict(num_epochs=3))
