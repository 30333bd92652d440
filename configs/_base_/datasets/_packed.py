# Data loaders for data sets of small images: PackedImages decodes the images once,
# and the data preprocessor augments whole batches.
train_dataloader = dict(
    num_workers=0,  # a batch is a single copy; a worker would cost more time than it saves
    # for --cfg-options train_dataloader.num_workers=N: workers are started in each epoch,
    # so they can be seeded by the epoch
    persistent_workers=False,
    worker_init_fn=dict(type='seed_worker_by_epoch'),
    pin_memory=True,
    collate_fn=dict(type='whole_batch'),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    pin_memory=True,
    collate_fn=dict(type='whole_batch'),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
