# scikit-learn's handwritten digits, 8x8 and grey: nothing to download
data_preprocessor = dict(
    type='mmpretrain.BatchClsDataPreprocessor',
    num_classes=10,
    mean=[78.005],  # over all pixels of the 1,287 training images
    std=[95.714],
)

train_pipeline = [
    # shifts by one pixel, filled with 0, the paper; a mirrored 2 is no 2, so
    # no flip
    dict(type='RandomCrop', crop_size=8, padding=1),
    dict(type='PackInputs'),
]
val_pipeline = [dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=64,  # 20 steps an epoch
    drop_last=True,  # 7 images are left, too few for batch normalization
    num_workers=0,  # a worker would cost more than it saves
    persistent_workers=False,  # workers that start anew see the epoch:
    worker_init_fn=dict(type='seed_worker_by_epoch'),  # where there are any
    collate_fn=dict(type='whole_batch'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='PackedImages',  # augmented by batches
        dataset=dict(type='Digits', split='train', pipeline=train_pipeline),
    ),
)
val_dataloader = dict(
    batch_size=510,  # all in one step
    num_workers=0,
    persistent_workers=False,
    collate_fn=dict(type='whole_batch'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='PackedImages',
        pipeline=val_pipeline,  # for MMPretrain's inferencer
        dataset=dict(type='Digits', split='test', pipeline=val_pipeline),
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1,))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
