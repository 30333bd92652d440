# Tiny ImageNet at its native size, 64x64: python tools/prepare_data.py tinyimagenet
_base_ = './_packed.py'

data_preprocessor = dict(
    type='mmpretrain.BatchClsDataPreprocessor',
    num_classes=200,
    # RGB, over all pixels of the 100,000 training images. mdistiller's std,
    # (0.230, 0.227, 0.226) * 255, is a fifth smaller
    mean=[122.460, 114.257, 101.363],
    std=[70.491, 68.560, 71.805],
    to_rgb=True,  # mmcv decodes to BGR
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    # pads with zeros an eighth of the side, like 4 of 32 in the CIFAR recipes
    # (mdistiller instead rotates by up to 20 degrees, which needs interpolation)
    dict(type='RandomCrop', crop_size=64, padding=8),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
val_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=256,  # mdistiller's Tiny ImageNet recipe
    dataset=dict(
        type='PackedImages',
        dataset=dict(
            type='TinyImageNet',
            data_root='data/tiny-imagenet-200',
            split='train',
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    batch_size=256,
    dataset=dict(
        type='PackedImages',
        pipeline=val_pipeline,  # for MMPretrain's inferencer
        dataset=dict(
            type='TinyImageNet',
            data_root='data/tiny-imagenet-200',
            split='val',
            pipeline=val_pipeline,
        ),
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
