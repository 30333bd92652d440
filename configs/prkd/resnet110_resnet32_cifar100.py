# ResNet-110 teaches ResNet-32 on CIFAR-100, by PRKD with a tail average.
_base_ = [
    '../_base_/datasets/cifar100.py',
    '../_base_/models/small_images/resnet110.py',
    '../_base_/models/small_images/resnet32.py',
    '../_base_/schedules/sgd_240e_bs64.py',
    '../_base_/distill_runtime.py',
    '../_base_/methods/{{$PRKD_METHOD:prkd}}.py',
]
model = dict(
    architecture=_base_.resnet32,
    teacher=_base_.resnet110,
    teacher_ckpt='work_dirs/resnet110_cifar100',  # its latest checkpoint
    teacher_config='configs/teachers/resnet110_cifar100.py',
)
