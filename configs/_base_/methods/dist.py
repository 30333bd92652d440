# DIST: correlations over the classes and over the batch, with the weights of DIST_KD.
_base_ = './_logits.py'
method = 'dist'
model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=1.0))),
    distiller=dict(
        distill_losses=dict(
            loss_dist=dict(
                type='DISTLoss',
                tau=4.0,
                inter_loss_weight=1.0,
                intra_loss_weight=1.0,
                loss_weight=2.0,
            )
        ),
        loss_forward_mappings=dict(
            loss_dist=dict(
                logits_S=dict(from_student=True, recorder='logits'),
                logits_T=dict(from_student=False, recorder='logits'),
            )
        ),
    ),
)
