# Tiny ImageNet at its own 64x64: python tools/prepare_data.py tinyimagenet
data_preprocessor = dict(
    type='mmpretrain.BatchClsDataPreprocessor',
    num_classes=200,
    # RGB, over all pixels of the 100,000 training images. mdistiller's std,
    # (0.230, 0.227, 0.226) * 255, is smaller by a fifth
    mean=[122.460, 114.257, 101.363],
    std=[70.491, 68.560, 71.805],
    to_rgb=True,  # mmcv decodes to BGR
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    # pads with 0: an eighth of the side, as 4 of 32 in the CIFAR recipes.
    # (RandomCrop ignores padding_mode; mdistiller rotates by up to 20 degrees
    # instead, which costs an interpolation)
    dict(type='RandomCrop', crop_size=64, padding=8),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
val_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=256,  # mdistiller's Tiny ImageNet recipe
    num_workers=0,  # a worker would cost more than it saves
    persistent_workers=False,  # workers that start anew see the epoch:
    worker_init_fn=dict(type='seed_worker_by_epoch'),  # where there are any
    pin_memory=True,
    collate_fn=dict(type='whole_batch'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='PackedImages',  # decoded once, augmented by batches
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
    num_workers=0,
    persistent_workers=False,
    pin_memory=True,
    collate_fn=dict(type='whole_batch'),
    sampler=dict(type='DefaultSampler', shuffle=False),
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
