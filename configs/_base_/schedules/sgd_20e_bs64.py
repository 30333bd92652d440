# For the trial with 25,000 training images; the tail of the run still moves.
_base_ = './sgd_40e_bs64.py'
train_cfg = dict(max_epochs=20)
param_scheduler = dict(milestones=[12])
