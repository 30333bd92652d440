custom_imports = dict(imports=['prkd_mm'], allow_failed_imports=False)
default_scope = 'mmpretrain'

default_hooks = dict(
    runtime_info=dict(type='LeanRuntimeInfoHook'),  # syncs once per log line
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # files are complete or absent; two are kept, in case the disk damages one
    checkpoint=dict(type='SafeCheckpointHook', interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    epoch_seed=dict(type='EpochSeedHook'),  # so that a resumed run is exact
    channels_last=dict(type='ChannelsLastHook'),  # fastest layout for convolutions
    sync_buffers=dict(type='SyncBuffersHook'),  # keep BN buffers equal across ranks
)

randomness = dict(seed=0)
env_cfg = dict(
    cudnn_benchmark=True,  # the input size is constant
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
log_level = 'INFO'
load_from = None
resume = False
