# A schedule for trials: a few minutes on a CPU core with 5,000 images of 32x32.
_base_ = './sgd_40e_bs64.py'
train_cfg = dict(max_epochs=30)
param_scheduler = dict(milestones=[18])
