# ResNet-32x4 teaches WRN-16-2 on CIFAR-100 with PRKD and a tail average.
_base_ = [
    '../_base_/datasets/cifar100.py',
    '../_base_/models/small_images/resnet32x4.py',
    '../_base_/models/small_images/wrn_16_2.py',
    '../_base_/schedules/sgd_240e_bs64.py',
    '../_base_/distill_runtime.py',
    # one config serves every method: --method of the tools sets PRKD_METHOD
    '../_base_/methods/{{$PRKD_METHOD:prkd}}.py',
]
model = dict(
    architecture=_base_.wrn_16_2,
    teacher=_base_.resnet32x4,
    teacher_ckpt='work_dirs/resnet32x4_cifar100',  # the latest checkpoint in it
    teacher_config='configs/teachers/resnet32x4_cifar100.py',
)
