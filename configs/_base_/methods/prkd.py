# PRKD: (1 - r) KL(tau(e)) + r Cor(tau), r = e/E; tau(e) goes from 4 to 1.
_base_ = './_prkd_loss.py'
method = 'prkd'
custom_hooks = [
    dict(type='TeacherCheckHook'),
    dict(
        type='LossScheduleHook',
        schedules=[
            dict(loss='loss_prkd', attr='tau', start=4.0, end=1.0),
            dict(loss='loss_prkd', attr='kl_weight', start=1.0, end=0.0),
            dict(loss='loss_prkd', attr='cor_weight', start=0.0, end=1.0),
        ],
    ),
]
