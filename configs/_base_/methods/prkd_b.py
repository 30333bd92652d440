# PRKDb: (1 - r) KL(tau) + r Cor(tau), r = e/E, at the constant tau = 4.
_base_ = './_prkd_loss.py'
method = 'prkd_b'
custom_hooks = [
    dict(type='TeacherCheckHook'),
    dict(
        type='LossScheduleHook',
        schedules=[
            dict(loss='loss_prkd', attr='kl_weight', start=1.0, end=0.0),
            dict(loss='loss_prkd', attr='cor_weight', start=0.0, end=1.0),
        ],
    ),
]
