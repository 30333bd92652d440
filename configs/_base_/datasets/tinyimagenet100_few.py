# Like tinyimagenet100.py, with 10 training images per class and the same test set.
_base_ = './tinyimagenet100.py'
train_dataloader = dict(dataset=dict(dataset=dict(samples_per_class=10)))
