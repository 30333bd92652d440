# ResNet-56 teaches ResNet-20 on CIFAR-10 with PRKD and a tail average.
_base_ = [
    # PRKD_CIFAR10=cifar10_images reads the images from files
    '../_base_/datasets/{{$PRKD_CIFAR10:cifar10}}.py',
    '../_base_/models/small_images/resnet56.py',
    '../_base_/models/small_images/resnet20.py',
    '../_base_/schedules/sgd_240e_bs64.py',
    '../_base_/distill_runtime.py',
    # one config serves every method: --method of the tools sets PRKD_METHOD
    '../_base_/methods/{{$PRKD_METHOD:prkd}}.py',
]
# base files cannot all define `model`, so the class count is set on the nets they define
_base_.resnet56.head.num_classes = 10
_base_.resnet20.head.num_classes = 10
model = dict(
    architecture=_base_.resnet20,
    teacher=_base_.resnet56,
    teacher_ckpt='work_dirs/resnet56_cifar10',  # the latest checkpoint in it
    teacher_config='configs/teachers/resnet56_cifar10.py',
)
