# Trial: as too_small.py, with WRN-10-1 as the student.
_base_ = './too_small.py'
model = dict(
    architecture=dict(
        backbone=dict(_delete_=True, type='mmrazor.WideResNet', depth=10, widen_factor=1)
    )
)
