# WRN-40-1 for small images: pre-activation, stages of 16, 32, 64 channels.
wrn_40_1 = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(type='mmrazor.WideResNet', depth=40, widen_factor=1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=64,
        init_cfg=None,  # PyTorch's default, as in the published code
        loss=dict(type='CrossEntropyLoss'),
    ),
)
