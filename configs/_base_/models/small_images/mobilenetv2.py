# MobileNetV2 at width 0.5 for 32x32 images, as in the CIFAR-100 tables.
mobilenetv2 = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(type='MobileNetV2_CIFAR'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead', num_classes=100, in_channels=1280, loss=dict(type='CrossEntropyLoss')
    ),
)
