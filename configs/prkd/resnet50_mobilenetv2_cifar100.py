# ResNet-50 teaches MobileNetV2 on CIFAR-100 with PRKD and a tail average.
_base_ = [
    '../_base_/datasets/cifar100.py',
    '../_base_/models/small_images/resnet50.py',
    '../_base_/models/small_images/mobilenetv2.py',
    '../_base_/schedules/sgd_240e_bs64.py',
    '../_base_/distill_runtime.py',
    # one config serves every method: --method of the tools sets PRKD_METHOD
    '../_base_/methods/{{$PRKD_METHOD:prkd}}.py',
]
model = dict(
    architecture=_base_.mobilenetv2,
    teacher=_base_.resnet50,
    teacher_ckpt='work_dirs/resnet50_cifar100',  # the latest checkpoint in it
    teacher_config='configs/teachers/resnet50_cifar100.py',
)
optim_wrapper = dict(optimizer=dict(lr=0.01))  # as in the tables, for MobileNet
