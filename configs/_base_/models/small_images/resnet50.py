# ResNet-50 for small images: 3x3 stem, no pooling before the first stage.
resnet50 = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(type='ResNet_CIFAR', depth=50, out_indices=(3,), zero_init_residual=False),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=2048,
        init_cfg=None,  # PyTorch's default, as in the published code
        loss=dict(type='CrossEntropyLoss'),
    ),
)
