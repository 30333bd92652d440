# ResNet-110 teaches ResNet-20 on CIFAR-100 with PRKD and a tail average.
_base_ = [
    '../_base_/datasets/cifar100.py',
    '../_base_/models/small_images/resnet110.py',
    '../_base_/models/small_images/resnet20.py',
    '../_base_/schedules/sgd_240e_bs64.py',
    '../_base_/distill_runtime.py',
    # one config serves every method: --method of the tools sets PRKD_METHOD
    '../_base_/methods/{{$PRKD_METHOD:prkd}}.py',
]
model = dict(
    architecture=_base_.resnet20,
    teacher=_base_.resnet110,
    teacher_ckpt='work_dirs/resnet110_cifar100',  # the latest checkpoint in it
    teacher_config='configs/teachers/resnet110_cifar100.py',
)
