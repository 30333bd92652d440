# Cor: the correlation over the classes alone, from the first epoch to the last.
_base_ = './_prkd_loss.py'
method = 'cor'
model = dict(distiller=dict(distill_losses=dict(loss_prkd=dict(kl_weight=0.0, cor_weight=1.0))))
custom_hooks = [
    dict(type='TeacherCheckHook'),
    dict(
        type='LossScheduleHook',
        schedules=[dict(loss='loss_prkd', attr='cor_weight', start=1.0, shape='constant')],
    ),
]
