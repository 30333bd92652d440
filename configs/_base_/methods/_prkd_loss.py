# PRKDLoss on the logits; prkd_a, prkd_b and prkd differ in its schedule only.
_base_ = './_logits.py'
model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=0.1))),
    distiller=dict(
        distill_losses=dict(loss_prkd=dict(type='PRKDLoss', tau=4.0, loss_weight=0.9)),
        loss_forward_mappings=dict(
            loss_prkd=dict(
                preds_S=dict(from_student=True, recorder='logits'),
                preds_T=dict(from_student=False, recorder='logits'),
            )
        ),
    ),
)
