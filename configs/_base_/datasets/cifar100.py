# CIFAR-100, prepared as by CRD: python tools/prepare_data.py cifar100
data_preprocessor = dict(
    type='mmpretrain.BatchClsDataPreprocessor',
    num_classes=100,
    # RGB, over all pixels of the 50,000 training images; divided by 255 they
    # are those that the community's teachers were trained with
    mean=[129.304, 124.070, 112.434],
    std=[68.170, 65.392, 70.418],
    to_rgb=False,  # the files are RGB already
)

train_pipeline = [
    dict(type='RandomCrop', crop_size=32, padding=4),  # pads with 0
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
val_pipeline = [dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=64,  # 782 steps an epoch: the last one has 16 images
    num_workers=0,  # a worker would cost more than it saves
    persistent_workers=False,  # workers that start anew see the epoch:
    worker_init_fn=dict(type='seed_worker_by_epoch'),  # where there are any
    pin_memory=True,
    collate_fn=dict(type='whole_batch'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='PackedImages',  # decoded once, augmented by batches
        dataset=dict(
            type='CIFAR100',
            data_root='data',  # the folder in it is MMPretrain's choice
            split='train',
            download=False,  # prepare_data.py resumes, MMPretrain does not
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    batch_size=250,  # divides 10,000; the accuracy does not depend on it
    num_workers=0,
    persistent_workers=False,
    pin_memory=True,
    collate_fn=dict(type='whole_batch'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='PackedImages',
        pipeline=val_pipeline,  # for MMPretrain's inferencer
        dataset=dict(
            type='CIFAR100', data_root='data', split='test', download=False, pipeline=val_pipeline
        ),
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
