# Logit matching: half the mean squared error, the limit of KL tau^2 for large tau
# (and logits of mean 0); with the weights of KD.
_base_ = './_logits.py'
method = 'logit'
model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=0.1))),
    distiller=dict(
        distill_losses=dict(
            loss_l2=dict(type='L2Loss', normalize=False, div_element=True, loss_weight=0.45)
        ),
        loss_forward_mappings=dict(
            loss_l2=dict(
                s_feature=dict(from_student=True, recorder='logits'),
                t_feature=dict(from_student=False, recorder='logits'),
            )
        ),
    ),
)
