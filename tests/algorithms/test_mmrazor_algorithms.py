"""MMRazor's own algorithms: with our loss and hooks, and without us."""
import pytest
import toy
import torch

BOTH = [toy.prkd_schedule(), dict(type='TailAverageHook', num_epochs=2)]


@pytest.fixture
def ckpt(tmp_path):
    return toy.save_teacher(tmp_path / 'teacher.pth')


def load(path):
    return torch.load(path, weights_only=False)


def test_single_teacher_distill_with_all_of_ours(ckpt, tmp_path):
    net = toy.classifier(width=8)
    model = toy.distillation(
        ckpt, student=net, algorithm='SingleTeacherDistill')
    runner = toy.train(toy.config(model, tmp_path, *BOTH, epochs=4))
    lines = [x for x in toy.logged(tmp_path) if 'loss_prkd.tau' in x]
    assert [x['loss_prkd.tau'] for x in lines[::4]] == pytest.approx(
        [4., 3.25, 2.5, 1.75], abs=1e-12)
    accuracies = [x for x in toy.logged(tmp_path) if 'accuracy/top1' in x]
    assert accuracies[-1]['accuracy/top1'] > 50  # 25 by chance
    assert accuracies[-1]['student_avg/accuracy/top1'] > 50
    # its teacher is part of it, and stays out of the average
    toy.assert_same(runner.model.teacher.state_dict(),
                    torch.load(ckpt)['state_dict'])
    assert any(k.startswith('teacher.') for k in runner.model.state_dict())
    file = load(tmp_path / 'student_avg.pth')
    toy.build(net).load_state_dict(file['state_dict'])
    one, two = (load(tmp_path / f'epoch_{e}.pth')['state_dict']
                for e in (3, 4))
    name = 'head.fc.weight'
    torch.testing.assert_close(
        file['state_dict'][name],
        (one[f'architecture.{name}'] + two[f'architecture.{name}']) / 2)


def test_its_run_is_ours(ckpt, tmp_path):
    """Bit for bit: the frozen teacher changes what is kept, not the result."""
    runners = [
        toy.train(toy.config(
            toy.distillation(ckpt, algorithm=algorithm),
            tmp_path / algorithm, *BOTH))
        for algorithm in ('SingleTeacherDistill', 'FrozenTeacherDistill')
    ]
    toy.assert_same(*(toy.student(r).state_dict() for r in runners))
    toy.assert_same(*(
        load(tmp_path / f'{name}/student_avg.pth')['state_dict'] for name in
        ('SingleTeacherDistill', 'FrozenTeacherDistill')))


def test_self_distill(tmp_path):
    """Without a teacher: a feature of the student learns from a deeper one."""
    distiller = dict(
        type='mmrazor.ConfigurableDistiller',
        student_recorders=dict(
            low=dict(type='mmrazor.ModuleOutputs', source='backbone.conv1')),
        teacher_recorders=dict(
            high=dict(type='mmrazor.ModuleOutputs', source='backbone.conv2')),
        distill_losses=dict(loss_l2=dict(type='mmrazor.L2Loss')),
        loss_forward_mappings=dict(loss_l2=dict(
            s_feature=dict(from_student=True, recorder='low'),
            t_feature=dict(from_student=False, recorder='high'))))
    model = dict(toy.distillation(distiller=distiller),
                 type='mmrazor.SelfDistill')
    del model['teacher'], model['teacher_ckpt']
    toy.train(toy.config(model, tmp_path))
    lines = [x for x in toy.logged(tmp_path) if 'iter' in x]
    assert all(x['distill.loss_l2'] > 0 for x in lines)
