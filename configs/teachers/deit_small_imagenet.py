# The teacher DeiT-small on ImageNet: the schedule of MMPretrain, the data of the student.
_base_ = [
    '../_base_/datasets/imagenet.py',
    '../_base_/models/imagenet/deit_small.py',
    'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py',
    '../_base_/default_runtime.py',
]
model = _base_.deit_small
optim_wrapper = dict(
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'.cls_token': dict(decay_mult=0.0), '.pos_embed': dict(decay_mult=0.0)},
    ),
    clip_grad=dict(max_norm=5.0),
)
