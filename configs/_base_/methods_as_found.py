# The methods, with what a search on held-out photographs found for KD and
# DIST; for PRKD it found nothing better (docs/results.md). The pairs of the
# literature keep the literature's values, those in methods/.
_base_ = './methods/{{$PRKD_METHOD:prkd}}.py'
found = dict(
    kd=dict(loss_kl=dict(tau=1.6, loss_weight=1.1)),
    dist=dict(loss_dist=dict(tau=1.6, loss_weight=2.5)),
)
if _base_.method in found:
    model = dict(distiller=dict(distill_losses=found[_base_.method]))
del found
