_base_ = './default_runtime.py'
default_hooks = dict(tail_average=dict(type='TailAverageHook', num_epochs=10))
