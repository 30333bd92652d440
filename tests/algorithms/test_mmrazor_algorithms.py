"""MMRazor's own algorithms with and without the loss and hooks of this package."""

import pytest
import torch
import toy
from mmengine.dataset import pseudo_collate
from mmrazor.engine import SeparateOptimWrapperConstructor
from mmrazor.models.algorithms import distill
from mmrazor.registry import MODELS
from torch import nn

BOTH = [toy.prkd_schedule(), dict(type='TailAverageHook', num_epochs=2)]


def load(path):
    return torch.load(path, weights_only=False)


def test_single_teacher_distill_trains_with_our_loss_and_hooks(ckpt, tmp_path):
    net = toy.classifier(width=8)
    model = toy.distillation(ckpt, student=net, algorithm='SingleTeacherDistill')
    runner = toy.train(toy.config(model, tmp_path, *BOTH, epochs=4))
    lines = [x for x in toy.logged(tmp_path) if 'loss_prkd.tau' in x]
    assert [x['loss_prkd.tau'] for x in lines[::4]] == pytest.approx(
        [4.0, 3.25, 2.5, 1.75], abs=1e-12
    )
    accuracies = [x for x in toy.logged(tmp_path) if 'accuracy/top1' in x]
    assert accuracies[-1]['accuracy/top1'] > 50  # chance is 25
    assert accuracies[-1]['student_avg/accuracy/top1'] > 50
    # the teacher is a submodule there, and is excluded from the average
    toy.assert_same(runner.model.teacher.state_dict(), torch.load(ckpt)['state_dict'])
    assert any(k.startswith('teacher.') for k in runner.model.state_dict())
    file = load(tmp_path / 'student_avg.pth')
    toy.build(net).load_state_dict(file['state_dict'])
    one, two = (load(tmp_path / f'epoch_{e}.pth')['state_dict'] for e in (3, 4))
    name = 'head.fc.weight'
    torch.testing.assert_close(
        file['state_dict'][name], (one[f'architecture.{name}'] + two[f'architecture.{name}']) / 2
    )


def test_single_teacher_distill_trains_the_same_weights(ckpt, tmp_path):
    """From the same start, bit for bit; only the checkpoints differ."""
    start = toy.build(toy.classifier()).state_dict()
    torch.save(
        dict(state_dict={f'architecture.{k}': v for k, v in start.items()}), tmp_path / 'start.pth'
    )
    runners = [
        toy.train(
            toy.config(
                toy.distillation(ckpt, algorithm=algorithm),
                tmp_path / algorithm,
                *BOTH,
                load_from=str(tmp_path / 'start.pth'),
            )
        )
        for algorithm in ('SingleTeacherDistill', 'FrozenTeacherDistill')
    ]
    toy.assert_same(*(toy.student(r).state_dict() for r in runners))
    toy.assert_same(
        *(
            load(tmp_path / f'{name}/student_avg.pth')['state_dict']
            for name in ('SingleTeacherDistill', 'FrozenTeacherDistill')
        )
    )


def distiller(student, teacher, losses, **kwargs):
    """Config of a distiller.

    ``student`` and ``teacher`` map a recorder's name to the module it records;
    ``losses`` a loss's name to its config and to its arguments, each with the
    name of a recorder.
    """
    recorders = [
        {
            name: dict(type='mmrazor.ModuleOutputs', source=source)
            for name, source in sources.items()
        }
        for sources in (student, teacher)
    ]
    return (
        dict(
            type='mmrazor.ConfigurableDistiller',
            student_recorders=recorders[0],
            teacher_recorders=recorders[1],
            distill_losses={name: loss for name, (loss, _) in losses.items()},
            loss_forward_mappings={
                name: {
                    arg: dict(from_student=arg in ('s_feature', 'preds_S'), recorder=recorder)
                    for arg, recorder in args.items()
                }
                for name, (_, args) in losses.items()
            },
        )
        | kwargs
    )


def l2(student, teacher):
    """Config of a distiller that compares two features."""
    return distiller(
        dict(low=student),
        dict(high=teacher),
        dict(loss_l2=(dict(type='mmrazor.L2Loss'), dict(s_feature='low', t_feature='high'))),
    )


def single_teacher(ckpt):
    return toy.distillation(ckpt, algorithm='SingleTeacherDistill')


def fpn_teacher(ckpt):
    """An algorithm for detectors, which needs only features of the teacher."""
    return toy.distillation(
        ckpt,
        algorithm='FpnTeacherDistill',
        student=toy.classifier(width=6),
        distiller=l2('neck.gap', 'neck.gap'),
    )


def self_distill(ckpt):
    """A feature of the student is trained to match a deeper one of the same net."""
    model = toy.distillation(
        algorithm='SelfDistill', distiller=l2('backbone.conv1', 'backbone.conv2')
    )
    del model['teacher'], model['teacher_ckpt']
    return model


def overhaul(ckpt):
    cfg = distiller(
        dict(bn='backbone.bn2'),
        dict(bn='backbone.bn2'),
        dict(loss_ofd=(dict(type='mmrazor.OFDLoss'), dict(s_feature='bn', t_feature='bn'))),
        type='mmrazor.OFDDistiller',
        connectors=dict(
            widen=dict(
                type='mmrazor.ConvModuleConnector',
                in_channel=4,
                out_channel=6,
                norm_cfg=dict(type='BN'),
                act_cfg=None,
            ),
            margin=dict(type='mmrazor.OFDTeacherConnector'),
        ),
    )
    features = cfg['loss_forward_mappings']['loss_ofd']
    features['s_feature']['connector'] = 'widen'
    features['t_feature']['connector'] = 'margin'
    return toy.distillation(ckpt, algorithm='OverhaulFeatureDistillation', distiller=cfg)


def data_free(ckpt):
    return _data_free(
        ckpt,
        'DataFreeDistillation',
        distiller(
            dict(fc='head.fc'),
            dict(fc='wide.head.fc'),
            # the generator searches for images on which the nets differ
            dict(
                loss_l1=(
                    dict(type='mmrazor.L1Loss', loss_weight=-1.0),
                    dict(s_feature='fc', t_feature='fc'),
                )
            ),
        ),
    )


def dafl(ckpt):
    losses = dict(
        loss_oh=(dict(type='mmrazor.OnehotLikeLoss'), dict(preds_T='fc')),
        loss_ie=(dict(type='mmrazor.InformationEntropyLoss'), dict(preds_T='fc')),
        loss_ac=(dict(type='mmrazor.ActivationLoss'), dict(feat_T='gap')),
    )
    return _data_free(
        ckpt,
        'DAFLDataFreeDistillation',
        distiller({}, dict(fc='wide.head.fc', gap='wide.neck.gap'), losses),
    )


def _data_free(ckpt, algorithm, generator_distiller):
    model = toy.distillation(
        algorithm=algorithm,
        teachers=dict(wide=dict(build_cfg=toy.classifier(width=6), ckpt_path=ckpt)),
        generator=dict(type='mmrazor.DAFLGenerator', img_size=8, latent_dim=5, hidden_channels=4),
        generator_distiller=generator_distiller,
        distiller=distiller(
            dict(fc='head.fc'),
            dict(fc='wide.head.fc'),
            dict(loss_prkd=(dict(type='mmrazor.PRKDLoss'), dict(preds_S='fc', preds_T='fc'))),
        ),
    )
    del model['teacher'], model['teacher_ckpt']
    return model


WITH_DATA = dict(
    SingleTeacherDistill=single_teacher,
    FpnTeacherDistill=fpn_teacher,
    SelfDistill=self_distill,
    OverhaulFeatureDistillation=overhaul,
)
WITHOUT_DATA = dict(DataFreeDistillation=data_free, DAFLDataFreeDistillation=dafl)


def test_every_algorithm_of_mmrazor_is_covered():
    ours = sorted([*WITH_DATA, *WITHOUT_DATA])
    assert sorted(distill.__all__) == ours
    assert (
        sorted(
            name
            for name, cls in MODELS.module_dict.items()
            if cls.__module__.startswith(f'{distill.__name__}.')
        )
        == ours
    )


def changed(net, before):
    after = net.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


def snapshot(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize('name', WITH_DATA)
def test_the_algorithm_trains_with_our_hooks(ckpt, tmp_path, name):
    runner = toy.start(toy.config(WITH_DATA[name](ckpt), tmp_path, epochs=1))
    before = snapshot(toy.student(runner))
    with toy.quickly():
        runner.train()
    assert type(runner.model) is getattr(distill, name)
    assert changed(toy.student(runner), before) >= {'backbone.conv1.weight', 'head.fc.weight'}
    lines = [x for x in toy.logged(tmp_path) if 'iter' in x]
    assert len(lines) == toy.TRAIN_SIZE // toy.BATCH_SIZE
    for line in lines:
        values = [v for k, v in line.items() if k.startswith('distill.')]
        assert values and all(value > 0 for value in values)


class Wrapped(nn.Module):
    """Stand-in for MMEngine's wrapper of each part for DDP.

    The data-free algorithms access ``generator.module``, so MMRazor cannot
    train them without such a wrapper; the test takes one step instead of a run.
    """

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args):
        return self.module(*args)


@pytest.mark.parametrize('name', WITHOUT_DATA)
def test_the_data_free_algorithm_takes_a_step(ckpt, name):
    """Only the size of the batch matters, as a generator creates the images."""
    torch.manual_seed(0)
    model = toy.build(WITHOUT_DATA[name](ckpt))
    assert type(model) is getattr(distill, name)
    model.generator = Wrapped(model.generator)
    optimizers = SeparateOptimWrapperConstructor(
        dict(
            architecture=dict(optimizer=dict(type='SGD', lr=0.1)),
            generator=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        )
    )(model)
    nets = model.student, model.generator, model.teachers
    before = [snapshot(net) for net in nets]
    images = toy.ToyImages(size=8, pipeline=[dict(type='PackInputs')])
    losses = model.train().train_step(pseudo_collate(list(images)), optimizers)
    assert losses['distill.loss_prkd'] > 0
    assert {key.split('.')[0] for key in losses} == {'distill', 'generator'}
    student, generator, teachers = (changed(net, state) for net, state in zip(nets, before))
    assert {'backbone.conv1.weight', 'head.fc.weight'} <= student
    assert 'module.linear.weight' in generator
    assert not teachers
    toy.assert_same(model.teachers.wide.state_dict(), torch.load(ckpt)['state_dict'])
