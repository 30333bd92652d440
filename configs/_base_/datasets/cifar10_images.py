# CIFAR-10 as image files in data/cifar10-images/{train,test}/<class>/.
_base_ = './cifar10.py'

data_preprocessor = dict(to_rgb=True)  # mmcv decodes to BGR
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            _delete_=True,
            type='CustomDataset',
            data_root='data/cifar10-images/train',
            pipeline=[dict(type='LoadImageFromFile')] + _base_.train_pipeline,
        )
    )
)
val_dataloader = dict(
    dataset=dict(
        pipeline=[dict(type='LoadImageFromFile')] + _base_.val_pipeline,
        dataset=dict(_delete_=True, type='CustomDataset', data_root='data/cifar10-images/test'),
    )
)
test_dataloader = val_dataloader
