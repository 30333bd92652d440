# Your own images in photos/{train,val}/<class>/: a ResNet-18 with a teacher from timm.
# timm's weights are for ImageNet's classes. Fine-tune the net on your classes with timm,
# and set teacher_ckpt to the result.
# The classes must have the order of the teacher's, and timm's weights contain no names to check it:
# timm sorts folders by the numbers in their names (c_2, c_10), the data sets below by letters
# (c_10, c_2). Names such as c_02 and c_10 have one order. `classes=[...]` of a CustomDataset only
# renames the classes; it does not change their order.
_base_ = [
    'prkd_mm::_base_/schedules/sgd_40e_bs64.py',
    'prkd_mm::_base_/distill_runtime.py',
    'prkd_mm::_base_/methods/prkd.py',
]
num_classes = 10  # number of folders; for two classes, choose kd instead of prkd
data_preprocessor = dict(
    type='mmpretrain.BatchClsDataPreprocessor',
    num_classes=num_classes,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
model = dict(
    architecture=dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        backbone=dict(type='ResNet', depth=18),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead',
            num_classes=num_classes,
            in_channels=512,
            loss=dict(type='CrossEntropyLoss', loss_weight=0.1),
        ),
    ),
    teacher='timm::resnet50.a1_in1k',
    teacher_ckpt='work_dirs/resnet50_on_my_photos.pth',
)
train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    collate_fn=dict(type='whole_batch'),
    dataset=dict(
        type='ImageViews',  # reproducible augmentation, for stored logits
        dataset=dict(
            type='CustomDataset',
            data_prefix='photos/train',
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='RandomResizedCrop', scale=224),
                dict(type='RandomFlip', prob=0.5),
                dict(type='PackInputs'),
            ],
        ),
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    dataset=dict(
        type='CustomDataset',
        data_prefix='photos/val',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='ResizeEdge', scale=256),
            dict(type='CenterCrop', crop_size=224),
            dict(type='PackInputs'),
        ],
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
