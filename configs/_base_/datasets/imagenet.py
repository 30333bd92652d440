# ImageNet-1k, as MMPretrain prepares it, in data/imagenet.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs32.py'

data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor')
train_dataloader = dict(
    # workers that start again in each epoch can be seeded by the epoch
    persistent_workers=False,
    worker_init_fn=dict(type='seed_worker_by_epoch'),
    pin_memory=True,
    collate_fn=dict(type='default_collate'),  # stacks the batch in the worker
)
val_dataloader = dict(
    persistent_workers=False, pin_memory=True, collate_fn=dict(type='default_collate')
)
test_dataloader = val_dataloader
