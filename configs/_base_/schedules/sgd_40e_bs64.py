# For small data sets, such as the digits and the photos of the tutorial.
train_cfg = dict(by_epoch=True, max_epochs=40, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4)
)
# a single drop, so that the weights still change in the averaged tail
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[24], gamma=0.1)
auto_scale_lr = dict(base_batch_size=64)
