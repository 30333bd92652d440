# PRKD: (1 - r) KL(tau(e)) + r Cor(tau), r = e/E; tau(e) goes from 4 to 1.
#
# To choose how far the supervision relaxes (0.25: to a quarter of its initial
# strength; above 1: it tightens), replace the end of cor_weight by relax_to:
#   --cfg-options custom_hooks.1.schedules.2.end=None custom_hooks.1.schedules.2.relax_to=0.25
# or, in a config of your own, replace the third schedule by
#   dict(loss='loss_prkd', attr='cor_weight', start=0.0, relax_to=0.25)
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
