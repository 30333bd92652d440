# CIFAR-100 with the preprocessing of CRD: python tools/prepare_data.py cifar100
_base_ = './_packed.py'

data_preprocessor = dict(
    type='mmpretrain.BatchClsDataPreprocessor',
    num_classes=100,
    # RGB, over all pixels of the 50,000 training images; divided by 255, these are
    # the values that the published CIFAR-100 teachers were trained with
    mean=[129.304, 124.070, 112.434],
    std=[68.170, 65.392, 70.418],
    to_rgb=False,  # the files are already RGB
)

train_pipeline = [
    dict(type='RandomCrop', crop_size=32, padding=4),  # pads with zeros
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
val_pipeline = [dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=64,  # 782 steps per epoch: the last one has 16 images
    dataset=dict(
        type='PackedImages',
        dataset=dict(
            type='CIFAR100',
            data_root='data',  # MMPretrain fixes the name of the folder in it
            split='train',
            download=False,  # prepare_data.py can resume a download, MMPretrain cannot
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    batch_size=250,  # divides 10,000; the accuracy does not depend on it
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
