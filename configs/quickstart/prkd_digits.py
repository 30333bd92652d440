# PRKD in seconds on a CPU: real handwritten digits, no download.
# tools/train.py ... --method selects another method: ce, logit, kd, dist, cor, ...
_base_ = [
    '../_base_/datasets/digits.py',
    '../_base_/models/digits.py',
    '../_base_/schedules/sgd_40e_bs64.py',
    '../_base_/distill_runtime.py',
    '../_base_/methods/{{$PRKD_METHOD:prkd}}.py',
]
model = dict(
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt='work_dirs/teacher_digits',  # its latest checkpoint
    teacher_config='configs/quickstart/teacher_digits.py',
)
# Top-1 of the student alone at learning rates 0.05, 0.1, 0.2 and 0.4 with seed 0: 77.0, 90.4,
# 91.6 and 92.5 %. A lower rate would make distillation look better than it is.
optim_wrapper = dict(optimizer=dict(lr=0.2))
