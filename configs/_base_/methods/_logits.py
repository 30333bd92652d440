# Recorders for the logits of teacher and student, which all methods compare.
model = dict(
    _scope_='mmrazor',
    type='FrozenTeacherDistill',
    distiller=dict(
        type='ConfigurableDistiller',
        # the output of the whole head is the logits, for convolutional nets and transformers
        student_recorders=dict(logits=dict(type='ModuleOutputs', source='head')),
        teacher_recorders=dict(logits=dict(type='ModuleOutputs', source='head')),
    ),
)
custom_hooks = [dict(type='TeacherCheckHook')]
