# WRN-40-2 teaches WRN-16-2 on CIFAR-10 with PRKD and a tail average.
_base_ = [
    # PRKD_CIFAR10=cifar10_images reads the images from files
    '../_base_/datasets/{{$PRKD_CIFAR10:cifar10}}.py',
    '../_base_/models/small_images/wrn_40_2.py',
    '../_base_/models/small_images/wrn_16_2.py',
    '../_base_/schedules/sgd_240e_bs64.py',
    '../_base_/distill_runtime.py',
    # one config serves every method: --method of the tools sets PRKD_METHOD
    '../_base_/methods/{{$PRKD_METHOD:prkd}}.py',
]
# base files cannot all define `model`, so the class count is set on the nets they define
_base_.wrn_40_2.head.num_classes = 10
_base_.wrn_16_2.head.num_classes = 10
model = dict(
    architecture=_base_.wrn_16_2,
    teacher=_base_.wrn_40_2,
    teacher_ckpt='work_dirs/wrn_40_2_cifar10',  # the latest checkpoint in it
    teacher_config='configs/teachers/wrn_40_2_cifar10.py',
)
