# KD: KL at the constant tau = 4, with the weights of RepDistiller and mdistiller.
_base_ = './_logits.py'
method = 'kd'
model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=0.1))),
    distiller=dict(
        distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=4.0, loss_weight=0.9)),
        loss_forward_mappings=dict(
            loss_kl=dict(
                preds_S=dict(from_student=True, recorder='logits'),
                preds_T=dict(from_student=False, recorder='logits'),
            )
        ),
    ),
)
