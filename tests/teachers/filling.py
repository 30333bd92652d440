"""Runs that store the logits of a small teacher."""

from unittest import mock

import toy

from prkd_mm.teachers.filling_teacher import prepare_store

VIEWS = 2
FOUR_CHUNKS = mock.patch('prkd_mm.teachers.logit_store._CHUNK', toy.TRAIN_SIZE // 4)


def config(ckpt, folder, logits, *hooks, epochs=4):
    cfg = toy.config(
        toy.distillation(ckpt, student=toy.classifier(dropout=0.3)),
        folder,
        toy.prkd_schedule(),
        dict(type='TeacherCheckHook'),
        dict(type='TailAverageHook', num_epochs=2),
        dict(type='ChannelsLastHook'),
        *hooks,
        epochs=epochs,
        log_level='INFO',
    )
    cfg.custom_hooks[0].schedules[2] = dict(
        loss='loss_prkd', attr='cor_weight', start=0.0, relax_to=0.25
    )
    toy.pack(cfg)
    cfg.model.teacher_logits = logits
    prepare_store(cfg)
    return cfg


def filling(folder, **options):
    return dict(views=VIEWS, folder=str(folder), **options)
