# CIFAR-10 with the preprocessing of CIFAR-100: python tools/prepare_data.py cifar10
_base_ = './cifar100.py'

data_preprocessor = dict(
    num_classes=10,
    # over all pixels of the 50,000 training images. MMPretrain's std, (51.6, 50.8,
    # 51.3), averages the std of each image and is a fifth smaller
    mean=[125.307, 122.950, 113.865],
    std=[62.993, 62.089, 66.705],
)
train_dataloader = dict(dataset=dict(dataset=dict(type='CIFAR10')))
val_dataloader = dict(dataset=dict(dataset=dict(type='CIFAR10')))
test_dataloader = dict(dataset=dict(dataset=dict(type='CIFAR10')))
