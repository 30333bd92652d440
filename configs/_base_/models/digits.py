# For 8x8 gray images: a ResNet-18 at 1/4 of the width as the teacher. The student is the first
# stage of one at 1/8, about 2,600 weights: small enough to need a teacher. Its size was chosen
# for a gap between the student alone and the distilled ones, not by which method is best.
teacher = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(
        type='ResNet_CIFAR',
        depth=18,
        in_channels=1,
        stem_channels=16,
        base_channels=16,
        out_indices=(3,),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead', num_classes=10, in_channels=128, loss=dict(type='CrossEntropyLoss')
    ),
)
student = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(
        type='ResNet_CIFAR',
        depth=18,
        in_channels=1,
        stem_channels=8,
        base_channels=8,
        num_stages=1,
        strides=(2,),
        dilations=(1,),
        out_indices=(0,),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead', num_classes=10, in_channels=8, loss=dict(type='CrossEntropyLoss')
    ),
)
