# WRN-40-2 teaches WRN-16-2 on Tiny ImageNet with PRKD and a tail average.
_base_ = [
    '../_base_/datasets/tinyimagenet.py',
    '../_base_/models/small_images/wrn_40_2.py',
    '../_base_/models/small_images/wrn_16_2.py',
    '../_base_/schedules/sgd_200e_bs256.py',
    '../_base_/distill_runtime.py',
    # one config serves every method: --method of the tools sets PRKD_METHOD
    '../_base_/methods/{{$PRKD_METHOD:prkd}}.py',
]
# base files cannot all define `model`, so the class count is set on the nets they define
_base_.wrn_40_2.head.num_classes = 200
_base_.wrn_16_2.head.num_classes = 200
model = dict(
    architecture=_base_.wrn_16_2,
    teacher=_base_.wrn_40_2,
    teacher_ckpt='work_dirs/wrn_40_2_tinyimagenet',  # the latest checkpoint in it
    teacher_config='configs/teachers/wrn_40_2_tinyimagenet.py',
)
