# MobileNetV2 of full width for 64x64 images, as in tables on Tiny ImageNet.
mobilenetv2_tinyimagenet = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(type='MobileNetV2_TinyImageNet'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=1280,
        init_cfg=None,  # PyTorch's own, as in the nets of the tables
        loss=dict(type='CrossEntropyLoss'),
    ),
)
