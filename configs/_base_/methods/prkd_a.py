# PRKDa: KL(tau(e)); tau(e) goes from 4 to 1.
_base_ = './_prkd_loss.py'
method = 'prkd_a'
custom_hooks = [
    dict(type='TeacherCheckHook'),
    dict(
        type='LossScheduleHook', schedules=[dict(loss='loss_prkd', attr='tau', start=4.0, end=1.0)]
    ),
]
