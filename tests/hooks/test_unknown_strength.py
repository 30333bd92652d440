"""Runs whose strength is unknown, or is not that of the whole run."""

from types import SimpleNamespace

import pytest
import toy
from mmengine.registry import MODELS
from relaxed import CHECK, config, logged, run, schedule, teacher_of, with_loss_on_features

from prkd_mm.hooks.strength_log import known_losses


def test_losses_on_features_have_no_strength():
    kl = dict(type='mmrazor.KLDivergence', tau=3.0)
    cfg = with_loss_on_features(loss_kl=kl, loss_feature=kl)
    distiller = MODELS.build(dict(cfg, _scope_='mmrazor'))
    runner = SimpleNamespace(model=SimpleNamespace(distiller=distiller))
    assert list(known_losses(runner)) == ['loss_kl']


def test_without_a_teacher_check_the_strength_is_unknown(tmp_path):
    run(config(teacher_of(tmp_path / 't.pth'), tmp_path, schedule(), epochs=1))
    assert toy.log_text(tmp_path).count('strength of the supervision is unknown') == 1
    assert not logged(tmp_path)


def test_a_loss_with_options_that_are_not_supported_is_named(tmp_path):
    kl = dict(type='mmrazor.KLDivergence', tau=3.0, reduction='mean')
    cfg = dict(
        type='LossScheduleHook', schedules=[dict(loss='loss_kl', attr='tau', start=4, end=1)]
    )
    distiller = toy.logits_distiller(loss_kl=kl)
    run(config(teacher_of(tmp_path / 't.pth'), tmp_path, CHECK, cfg, distiller=distiller, epochs=1))
    text = toy.log_text(tmp_path)
    assert "unknown: it is defined for PRKDLoss, KLDivergence(reduction='batchmean')" in text
    assert 'on logits; scheduled: KLDivergence\n' in text and 'add dict(type=' not in text


@pytest.mark.parametrize('relax_to', [None, 0.25])
def test_the_strength_is_unknown_if_the_scores_of_the_teacher_are_no_softmax(tmp_path, relax_to):
    cfg = config(teacher_of(tmp_path / 't.pth'), tmp_path, CHECK, schedule(relax_to), epochs=2)
    cfg.model.type = 'mmrazor.SingleTeacherDistill'  # FrozenTeacherDistill rejects such a head
    cfg.model.teacher.head.type = 'mmpretrain.MultiLabelLinearClsHead'
    cfg.model.teacher.head.loss = dict(type='mmpretrain.CrossEntropyLoss', use_sigmoid=True)
    if relax_to:
        with pytest.raises(ValueError, match='relax_to=0.25 needs logits .* a softmax'):
            run(cfg)
        return
    run(cfg)
    text = toy.log_text(tmp_path)
    assert "the teacher's scores are not a softmax over the classes" in text
    assert 'add dict(type=' not in text  # the check is there
    assert not logged(tmp_path)


def test_a_resumed_run_without_logits_logs_no_strength(tmp_path):
    ckpt = teacher_of(tmp_path / 't.pth')
    run(config(ckpt, tmp_path / 'a', CHECK, schedule(), epochs=2))
    none = dict(val_dataloader=None, val_cfg=None, val_evaluator=None)
    cfg = config(ckpt, tmp_path / 'b', CHECK, schedule(), epochs=4, **none)
    toy.resume(cfg, tmp_path / 'a/epoch_2.pth')
    assert logged(tmp_path / 'a') and not logged(tmp_path / 'b')


@pytest.mark.parametrize('trainable', [True, False])
def test_the_strength_of_a_teacher_that_is_trained_is_the_initial_one(tmp_path, trainable):
    options = dict(algorithm='SingleTeacherDistill', teacher_trainable=trainable)
    model = toy.distillation(teacher_of(tmp_path / 't.pth'), **options)
    run(toy.config(model, tmp_path, CHECK, schedule(), epochs=1, log_level='INFO'))
    assert ('(40 validation images, initial teacher)' in toy.log_text(tmp_path)) == trainable
