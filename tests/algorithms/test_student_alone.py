import pytest
import torch
import toy
from mmengine.config import Config
from mmpretrain.structures import DataSample

from prkd_mm.algorithms.student_alone import student_alone

PREPROCESSOR = dict(mean=[127.5] * 3, std=[60.0] * 3)


def test_losses_are_those_of_the_plain_classifier():
    net = toy.build(toy.classifier(preprocessor=PREPROCESSOR))
    cfg = dict(
        toy.distillation('not/read.pth', teacher_config='not/read.py'), type='mmrazor.StudentAlone'
    )
    del cfg['distiller']
    model = toy.build(cfg)
    model.architecture.load_state_dict(net.state_dict())
    data = dict(
        inputs=torch.randint(256, (6, 3, 8, 8)),
        data_samples=[DataSample().set_gt_label(i % 4) for i in range(6)],
    )
    for mode in (True, False):
        results = []
        for x in (net, model):
            x.train(mode)
            results.append(x(**x.data_preprocessor(data), mode='loss'))
        toy.assert_same(*results)


def test_training_gives_the_weights_of_the_plain_classifier(tmp_path):
    """The weights and their average equal those of the plain classifier."""
    tail = dict(type='TailAverageHook', num_epochs=2)
    alone = dict(toy.distillation(), type='mmrazor.StudentAlone')
    del alone['distiller']
    plain = toy.classifier(preprocessor=PREPROCESSOR)
    runners = [
        toy.train(toy.config(model, tmp_path / str(i), tail))
        for i, model in enumerate((alone, plain))
    ]
    toy.assert_same(toy.student(runners[0]).state_dict(), runners[1].model.state_dict())
    toy.assert_same(
        *(torch.load(tmp_path / f'{i}/student_avg.pth')['state_dict'] for i in range(2))
    )


def test_training_can_start_from_the_student_of_a_distillation(tmp_path):
    """A seed gives every method the same initial student."""
    ckpt = toy.save_teacher(tmp_path / 'teacher.pth')
    alone = dict(toy.distillation(), type='mmrazor.StudentAlone')
    del alone['distiller']
    one, other = (
        toy.start(toy.config(model, tmp_path / str(i)))
        for i, model in enumerate((alone, toy.distillation(ckpt)))
    )
    toy.assert_same(toy.student(one).state_dict(), toy.student(other).state_dict())


@pytest.mark.parametrize('method', [toy.distillation(), toy.classifier()])
def test_the_config_of_the_student_alone_builds_the_student(method):
    """It has the student, the scope and the preprocessor, and nothing of the teacher."""
    preprocessor = dict(type='mmpretrain.ClsDataPreprocessor', **PREPROCESSOR)
    model = dict(method)
    del model['data_preprocessor']
    cfg = Config(dict(model=model, data_preprocessor=preprocessor))
    before = cfg.to_dict()
    alone = student_alone(cfg)
    net = toy.build(alone)
    assert getattr(net, 'architecture', net).backbone.conv1.out_channels == 4
    assert not hasattr(net, 'teacher')
    assert net.data_preprocessor.mean.flatten().tolist() == PREPROCESSOR['mean']
    assert cfg.to_dict() == before
