# CRD's recipe for CIFAR-100, which most distillation papers use.
train_cfg = dict(by_epoch=True, max_epochs=240, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='SGD',
        lr=0.05,  # 0.01 in the pairs with MobileNet
        momentum=0.9,
        weight_decay=5e-4,
    ),
)
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[150, 180, 210], gamma=0.1)
auto_scale_lr = dict(base_batch_size=64)  # for --auto-scale-lr
