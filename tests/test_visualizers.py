"""What a run sends to MMEngine's visualizers, read back from TensorBoard's event file."""

import pytest
import toy

EPOCHS, LENGTH = 2, toy.TRAIN_SIZE // toy.BATCH_SIZE


def test_tensorboard_shows_losses_schedule_strength_and_accuracy(ckpt, tmp_path):
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
    cfg = toy.config(
        toy.distillation(ckpt),
        tmp_path,
        dict(type='TeacherCheckHook'),
        toy.prkd_schedule(),
        dict(type='TailAverageHook', num_epochs=EPOCHS, bn_batches=1),
        epochs=EPOCHS,
        visualizer=dict(type='UniversalVisualizer', vis_backends=backends),
    )
    toy.train(cfg)

    (file,) = tmp_path.rglob('events.out.tfevents.*')
    events = accumulator.EventAccumulator(str(file)).Reload()
    shown = {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()['scalars']
    }
    progress = [iteration // LENGTH / EPOCHS for iteration in range(EPOCHS * LENGTH)]
    formulas = dict(
        tau=[4 - 3 * r for r in progress], kl_weight=[1 - r for r in progress], cor_weight=progress
    )
    for name, values in formulas.items():
        assert shown[f'loss_prkd.{name}'] == list(enumerate(values, 1))

    lines = toy.logged(tmp_path)
    losses = ['loss', 'student.loss', 'distill.loss_prkd', 'loss_prkd.kl', 'loss_prkd.cor']
    accuracies = ['accuracy/top1', 'student_avg/accuracy/top1']
    for name in [*losses, 'loss_prkd.strength', 'lr', *accuracies]:
        logged = [(line['step'], line[name]) for line in lines if name in line]
        assert len(logged) == (EPOCHS if name in accuracies else EPOCHS * LENGTH)
        assert shown[name] == [(step, pytest.approx(value)) for step, value in logged]
