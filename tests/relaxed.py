"""Toy runs of PRKD with a teacher check, and the strengths that they log."""

import torch
import toy

EPOCHS, LENGTH = 8, toy.TRAIN_SIZE // toy.BATCH_SIZE
CHECK = dict(type='TeacherCheckHook')


def teacher_of(path, sharpness=1.0):
    """Checkpoint of a teacher whose logits are scaled."""
    toy.save_teacher(path)
    checkpoint = torch.load(path, weights_only=False)
    for name in ('head.fc.weight', 'head.fc.bias'):
        checkpoint['state_dict'][name] = sharpness * checkpoint['state_dict'][name]
    torch.save(checkpoint, path)
    return str(path)


def schedule(relax_to=None, tau_end=1.0, **kwargs):
    cfg = toy.prkd_schedule(**kwargs)
    cfg['schedules'][0]['end'] = tau_end
    if relax_to is not None:
        cfg['schedules'][2] = dict(
            loss='loss_prkd', attr='cor_weight', start=0.0, relax_to=relax_to
        )
    return cfg


def config(ckpt, work_dir, *hooks, epochs=EPOCHS, distiller=None, **options):
    model = toy.distillation(ckpt, distiller=distiller)
    return toy.config(model, work_dir, *hooks, epochs=epochs, log_level='INFO', **options)


def run(cfg, probe=None):
    runner = toy.start(cfg)
    if probe is not None:
        runner.register_hook(probe)
    with toy.quickly():
        runner.train()
    return runner


def logged(work_dir, key='loss_prkd.strength', by='epoch'):
    """Logged values by 1-based epoch, or by iteration for ``by='step'``."""
    return {line[by]: line[key] for line in toy.logged(work_dir) if key in line}


def with_loss_on_features(**losses):
    """A distiller whose ``loss_feature`` compares the outputs of the necks."""
    cfg = toy.logits_distiller(**losses)
    feature = dict(type='mmrazor.ModuleOutputs', source='neck')
    recorders = dict(cfg['student_recorders'], feature=feature)
    cfg.update(student_recorders=recorders, teacher_recorders=recorders)
    cfg['loss_forward_mappings'] = dict(
        cfg['loss_forward_mappings'],
        loss_feature=dict(
            preds_S=dict(from_student=True, recorder='feature'),
            preds_T=dict(from_student=False, recorder='feature'),
        ),
    )
    return cfg
