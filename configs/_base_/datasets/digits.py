# scikit-learn's handwritten digits, 8x8 and gray: nothing to download
_base_ = './_packed.py'
data_preprocessor = dict(
    type='mmpretrain.BatchClsDataPreprocessor',
    num_classes=10,
    mean=[78.005],  # over all pixels of the 1,287 training images
    std=[95.714],
)

train_pipeline = [
    # shifts by up to one pixel, filled with 0, the color of the paper. No flip: a
    # mirrored 2 is not a 2
    dict(type='RandomCrop', crop_size=8, padding=1),
    dict(type='PackInputs'),
]
val_pipeline = [dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=64,  # 20 steps per epoch
    drop_last=True,  # the last 7 images are too few for batch normalization
    dataset=dict(
        type='PackedImages', dataset=dict(type='Digits', split='train', pipeline=train_pipeline)
    ),
)
val_dataloader = dict(
    batch_size=510,  # all images in one step
    dataset=dict(
        type='PackedImages',
        pipeline=val_pipeline,  # for MMPretrain's inferencer
        dataset=dict(type='Digits', split='test', pipeline=val_pipeline),
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1,))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
