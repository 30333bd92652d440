# ResNet-34 for small images: 3x3 stem, no pooling before the first stage.
resnet34 = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(type='ResNet_CIFAR', depth=34, out_indices=(3,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead', num_classes=100, in_channels=512, loss=dict(type='CrossEntropyLoss')
    ),
)
