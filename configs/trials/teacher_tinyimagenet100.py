# WRN-16-2 on 100 classes of Tiny ImageNet: the teacher of both trials.
_base_ = [
    '../_base_/datasets/tinyimagenet100.py',
    '../_base_/models/small_images/wrn_16_2.py',
    '../_base_/default_runtime.py',
]
model = _base_.wrn_16_2
train_cfg = dict(by_epoch=True, max_epochs=12, val_interval=4)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
)
# a one-cycle schedule with few epochs, for training on two CPU cores
param_scheduler = dict(
    type='OneCycleLR',
    eta_max=0.1,
    pct_start=0.25,
    total_steps=12,
    by_epoch=True,
    convert_to_iter_based=True,
)
auto_scale_lr = dict(base_batch_size=64)
