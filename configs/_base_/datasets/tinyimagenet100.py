# 100 classes of Tiny ImageNet at 32x32: 250 training images per class. The test
# set consists of images that no run of the trial trains on: the other 250 training
# images per class and the 50 validation images, 30,000 in total.
_base_ = './tinyimagenet.py'
data_preprocessor = dict(num_classes=100)
load = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(32, 32), interpolation='area')]
train_pipeline = [
    *load,
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
val_pipeline = [*load, dict(type='PackInputs')]

# another first_class (0 here) in all three data sets selects other classes
train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        dataset=dict(num_classes=100, first_class=0, samples_per_class=250, pipeline=train_pipeline)
    ),
)
val_dataloader = dict(
    dataset=dict(
        pipeline=val_pipeline,
        dataset=dict(
            split='train+val',
            num_classes=100,
            first_class=0,
            skip_per_class=250,
            pipeline=val_pipeline,
        ),
    )
)

test_dataloader = val_dataloader
