# WRN-16-2 for small images: pre-activation, stages of 32, 64, 128 channels.
wrn_16_2 = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(type='mmrazor.WideResNet', depth=16, widen_factor=2),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=128,
        init_cfg=None,  # PyTorch's default, as in the published code
        loss=dict(type='CrossEntropyLoss'),
    ),
)
