# KD with the values that a search on held-out photographs found (docs/results.md).
_base_ = '../methods/kd.py'
model = dict(distiller=dict(distill_losses=dict(loss_kl=dict(tau=1.6, loss_weight=1.1))))
