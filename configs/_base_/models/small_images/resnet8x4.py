# ResNet-8x4 for small images: stages of 64, 128 and 256 channels.
resnet8x4 = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(type='ResNet6n2', depth=8, stem_channels=32, base_channels=64),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=256,
        init_cfg=None,  # PyTorch's default, as in the published code
        loss=dict(type='CrossEntropyLoss'),
    ),
)
