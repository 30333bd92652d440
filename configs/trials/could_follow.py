# Trial: WRN-16-2 teaches ResNet-20, which alone fits the labels of its 10 images per class;
# 30,000 test images.
_base_ = [
    '../_base_/datasets/tinyimagenet100_few.py',
    '../_base_/models/small_images/wrn_16_2.py',
    '../_base_/models/small_images/resnet20.py',
    '../_base_/schedules/sgd_8e_bs64.py',
    '../_base_/distill_runtime.py',
    '../_base_/methods/{{$PRKD_METHOD:prkd}}.py',
]
model = dict(
    architecture=_base_.resnet20,
    teacher=_base_.wrn_16_2,
    teacher_ckpt='docs/results/teacher_tinyimagenet100.pth',
    teacher_config='configs/trials/teacher_tinyimagenet100.py',
)
train_cfg = dict(max_epochs=100, val_interval=50)
param_scheduler = dict(milestones=[60])
default_hooks = dict(tail_average=dict(num_epochs=10))
