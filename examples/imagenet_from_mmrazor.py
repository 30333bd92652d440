# MMRazor's shipped config of DIST (ResNet-34 -> ResNet-18, ImageNet), turned into PRKD.
_base_ = 'mmrazor::distill/mmcls/dist/dist_logits_resnet34_resnet18_8xb32_in1k.py'
custom_imports = dict(imports=['prkd_mm'], allow_failed_imports=False)

model = dict(
    distiller=dict(
        distill_losses=dict(loss_kl=dict(_delete_=True, type='PRKDLoss', tau=4.0, loss_weight=0.9))
    )
)
default_hooks = dict(
    teacher_check=dict(type='TeacherCheckHook'),
    schedule=dict(
        type='LossScheduleHook',
        schedules=[
            dict(loss='loss_kl', attr='tau', start=4.0, end=1.0),
            dict(loss='loss_kl', attr='kl_weight', start=1.0, end=0.0),
            dict(loss='loss_kl', attr='cor_weight', start=0.0, end=1.0),
        ],
    ),
    tail_average=dict(type='TailAverageHook', num_epochs=10),
)
# MMRazor's validation loop evaluates the teacher each time and fires hooks twice.
val_cfg = dict(_delete_=True)
