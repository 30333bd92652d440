# Caltech-256, 257 classes: python tools/prepare_data.py caltech256
# Without clutter: num_classes=256, and with_clutter=False in each data set
data_preprocessor = dict(
    type='mmpretrain.BatchClsDataPreprocessor',
    num_classes=257,
    # RGB statistics of ImageNet: similar photos, and pretrained nets expect them
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,  # mmcv decodes to BGR
)

# photos of many sizes, cropped like those of ImageNet in MMPretrain's configs
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224),  # 8 to 100 % of the area
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=64,  # as in the CIFAR recipes: about 385 steps per epoch
    num_workers=8,  # a few hundred images/s each; most of the time is decoding
    persistent_workers=False,
    pin_memory=True,
    collate_fn=dict(type='whole_batch'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='ImageViews',  # reproducible augmentation, for stored logits
        dataset=dict(
            type='Caltech256',
            data_root='data/256_ObjectCategories',
            split='train',
            with_clutter=True,
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    batch_size=64,  # the accuracy does not depend on it
    num_workers=4,  # a quarter of the images, and a cheaper pipeline
    persistent_workers=False,
    pin_memory=True,
    collate_fn=dict(type='whole_batch'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='Caltech256',
        data_root='data/256_ObjectCategories',
        split='test',
        with_clutter=True,
        pipeline=val_pipeline,
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
