# PRKD whose supervision ends at its initial strength.
_base_ = './prkd.py'
method = 'prkd_to_1'
custom_hooks = _base_.custom_hooks
custom_hooks[1].schedules[2] = dict(loss='loss_prkd', attr='cor_weight', start=0.0, relax_to=1.0)
