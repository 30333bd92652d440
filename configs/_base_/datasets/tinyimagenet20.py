# A trial for a CPU: 20 classes of Tiny ImageNet at 32x32, each with 250 training
# images and all 50 validation images.
_base_ = './tinyimagenet.py'
data_preprocessor = dict(num_classes=20)
load = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(32, 32), interpolation='area')]
train_pipeline = [
    *load,
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
val_pipeline = [*load, dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=64,
    dataset=dict(dataset=dict(num_classes=20, samples_per_class=250, pipeline=train_pipeline)),
)
val_dataloader = dict(
    dataset=dict(pipeline=val_pipeline, dataset=dict(num_classes=20, pipeline=val_pipeline))
)
val_evaluator = dict(topk=(1, 5))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
