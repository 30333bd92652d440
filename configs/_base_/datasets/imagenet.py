# ImageNet-1k in data/imagenet, with the pipelines of MMPretrain.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs32.py'

data_preprocessor = dict(type='mmpretrain.BatchClsDataPreprocessor')
train_dataloader = dict(
    persistent_workers=False,
    pin_memory=True,
    collate_fn=dict(type='whole_batch'),
    dataset=dict(
        _delete_=True,
        type='ImageViews',  # reproducible augmentation, for stored logits
        dataset=_base_.train_dataloader.dataset,
    ),
)
val_dataloader = dict(
    persistent_workers=False, pin_memory=True, collate_fn=dict(type='whole_batch')
)
test_dataloader = val_dataloader
