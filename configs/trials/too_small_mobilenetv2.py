# Trial: as too_small.py, with MobileNetV2 at width 0.25 as the student.
_base_ = './too_small.py'
model = dict(
    architecture=dict(
        backbone=dict(_delete_=True, type='MobileNetV2_CIFAR', widen_factor=0.25),
        head=dict(in_channels=1280),
    )
)
