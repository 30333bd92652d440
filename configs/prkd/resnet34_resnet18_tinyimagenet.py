# ResNet-34 teaches ResNet-18 on Tiny ImageNet, by PRKD with a tail average.
# tools/train.py ... --method picks another: ce, logit, kd, dist, prkd_a, prkd_b.
_base_ = [
    '../_base_/datasets/tinyimagenet.py',
    '../_base_/models/resnet34_64x64.py',
    '../_base_/models/resnet18_64x64.py',
    '../_base_/schedules/sgd_200e_bs256.py',
    '../_base_/distill_runtime.py',
    '../_base_/methods/{{$PRKD_METHOD:prkd}}.py',
]
model = dict(
    architecture=_base_.resnet18,
    teacher=_base_.resnet34,
    teacher_ckpt='work_dirs/resnet34_tinyimagenet',  # its latest checkpoint
    teacher_config='configs/teachers/resnet34_tinyimagenet.py')
