# ResNet-110 for small images: stages of 16, 32 and 64 channels.
resnet110 = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(type='ResNet6n2', depth=110),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=64,
        init_cfg=None,  # PyTorch's default, as in the published code
        loss=dict(type='CrossEntropyLoss'),
    ),
)
