# DIST with the values that a search on held-out photographs found (docs/results.md).
_base_ = '../methods/dist.py'
model = dict(distiller=dict(distill_losses=dict(loss_dist=dict(tau=1.6, loss_weight=2.5))))
