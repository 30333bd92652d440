# MMPretrain's stock ResNet-18 on CIFAR-10, with the ResNet-50 of its model zoo as the teacher.
_base_ = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
custom_imports = dict(imports=['prkd_mm'], allow_failed_imports=False)

logits = dict(type='ModuleOutputs', source='head.fc')
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='FrozenTeacherDistill',
    architecture=_base_.model,
    # or 'timm::NAME', 'torchvision::NAME', a .onnx file, or a config and teacher_ckpt
    teacher='resnet50_8xb16_cifar10',
    distiller=dict(
        type='ConfigurableDistiller',
        student_recorders=dict(logits=logits),
        teacher_recorders=dict(logits=logits),
        distill_losses=dict(loss_prkd=dict(type='PRKDLoss', tau=4.0)),
        loss_forward_mappings=dict(
            loss_prkd=dict(
                preds_S=dict(from_student=True, recorder='logits'),
                preds_T=dict(from_student=False, recorder='logits'),
            )
        ),
    ),
)
default_hooks = dict(
    teacher_check=dict(type='TeacherCheckHook'),
    schedule=dict(
        type='LossScheduleHook',
        schedules=[
            dict(loss='loss_prkd', attr='tau', start=4.0, end=1.0),
            dict(loss='loss_prkd', attr='kl_weight', start=1.0, end=0.0),
            dict(loss='loss_prkd', attr='cor_weight', start=0.0, end=1.0),
        ],
    ),
    tail_average=dict(type='TailAverageHook', num_epochs=10),
)
