# mdistiller's recipe for Tiny ImageNet, for one GPU.
train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='SGD',
        lr=0.2,  # 0.05 at batch 64, scaled linearly
        momentum=0.9,
        weight_decay=5e-4,  # ImageNet recipes use 1e-4; smaller data sets need more
    ),
)
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[60, 120, 160], gamma=0.1)
auto_scale_lr = dict(base_batch_size=256)  # for --auto-scale-lr
