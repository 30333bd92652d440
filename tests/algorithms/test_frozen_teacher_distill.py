import copy

import pytest
import torch
import toy
from frozen_teacher import OWN, batch, build, pretrained
from mmengine.hooks import EMAHook
from mmengine.registry import DefaultScope
from mmrazor.registry import MODELS
from project import ROOT
from relaxed import with_loss_on_features

from prkd_mm.config import load_config


def losses(model):
    data = model.data_preprocessor(batch(), False)
    return model(**data, mode='loss')


def step(model):
    """Compute losses and gradients; returns the losses."""
    result = losses(model)
    sum(result.values()).backward()
    return result


def config(ckpt, algorithm):
    model = toy.distillation(ckpt, algorithm=algorithm)
    if algorithm == 'StudentAlone':
        del model['distiller']
    return model


class TestTeacherIsOutsideTheModel:
    def test_the_module_tree_excludes_the_teacher(self, ckpt):
        model = build(ckpt)
        student = sum(1 for _ in model.architecture.parameters())
        assert len(list(model.parameters())) == student == 10
        assert not any(
            'teacher' in name
            for name in (
                *model.state_dict(),
                *dict(model.named_modules()),
                *dict(model.named_buffers()),
            )
            if 'distiller' not in name
        )
        assert all(name.startswith('architecture.') for name in model.state_dict())

    def test_the_optimizer_and_checkpoints_exclude_the_teacher(self, ckpt, tmp_path):
        runner = toy.train(toy.config(toy.distillation(ckpt), tmp_path))
        groups = runner.optim_wrapper.optimizer.param_groups
        optimized = {id(p) for group in groups for p in group['params']}
        assert optimized == {id(p) for p in toy.student(runner).parameters()}
        checkpoint = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
        assert all(name.startswith('architecture.') for name in checkpoint['state_dict'])
        assert len(checkpoint['optimizer']['state']) == len(optimized)

    def test_training_leaves_the_teachers_weights_unchanged(self, ckpt, tmp_path):
        runner = toy.train(
            toy.config(
                toy.distillation(ckpt, teacher=toy.classifier(width=6, dropout=0.5)), tmp_path
            )
        )
        toy.assert_same(runner.model.teacher.net.state_dict(), torch.load(ckpt)['state_dict'])
        assert all(p.grad is None for p in runner.model.teacher.parameters())

    def test_the_teacher_is_always_in_evaluation_mode(self, ckpt):
        model = build(ckpt, teacher=toy.classifier(width=6, dropout=0.5))
        assert not any(m.training for m in model.teacher.modules())
        model.teacher.train()  # by mistake
        for mode in (True, False, True):
            assert model.train(mode) is model
            assert model.architecture.backbone.bn1.training is mode
            assert not any(m.training for m in model.teacher.modules())
        assert model.eval() is model
        model.train()
        x = torch.randn(4, 3, 8, 8)
        assert torch.equal(model.teacher.logits(x), pretrained(ckpt)(x))

    def test_the_teacher_computes_only_logits_without_gradient_or_labels(self, ckpt, monkeypatch):
        model = build(ckpt).train()
        calls = []
        forward = model.teacher.net.forward

        def spy(*args, **kwargs):
            calls.append((args, kwargs, torch.is_grad_enabled()))
            return forward(*args, **kwargs)

        monkeypatch.setattr(model.teacher.net, 'forward', spy)
        step(model)
        ((args, kwargs, grad),) = calls
        assert len(args) == 1 and kwargs == dict(mode='tensor') and not grad
        assert all(p.grad is None for p in model.teacher.parameters())
        assert all(p.grad is not None for p in model.architecture.parameters())

    @pytest.mark.parametrize('stopped', [False, True])
    def test_the_teacher_is_not_called_after_distillation_has_stopped(
        self, ckpt, monkeypatch, stopped
    ):
        model = build(ckpt)
        model.distillation_stopped = stopped
        if stopped:
            monkeypatch.setattr(model.teacher.net, 'forward', None)
        assert ('distill.loss_prkd' in losses(model)) is not stopped

    def test_folded_batch_norms_leave_the_logits_unchanged(self, ckpt):
        plain, folded = build(ckpt), build(ckpt, fold_teacher_bn=True)
        assert not any(
            isinstance(module, torch.nn.BatchNorm2d) for module in folded.teacher.modules()
        )
        images = torch.randn(5, 3, 8, 8)
        torch.testing.assert_close(folded.teacher.logits(images), plain.teacher.logits(images))
        torch.testing.assert_close(losses(folded), losses(plain))

    @pytest.mark.parametrize(
        'config, left',
        [
            ('resnet56_resnet20_cifar100', 0),
            # pre-activation blocks begin with batch norm, with no convolution before it
            ('wrn_40_2_wrn_16_2_cifar100', 18),
            ('resnet18_mobilenetv2_tinyimagenet', 0),
        ],
    )
    def test_batch_norms_of_real_nets_are_folded(self, config, left, tmp_path):
        cfg = load_config(str(ROOT / f'configs/prkd/{config}.py'))
        settings = cfg.model.to_dict()
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            net = MODELS.build(settings['teacher'])
            torch.save(dict(state_dict=net.state_dict()), tmp_path / 'teacher.pth')
            settings.update(
                teacher_ckpt=str(tmp_path / 'teacher.pth'), data_preprocessor=cfg.data_preprocessor
            )
            model = MODELS.build(dict(settings, fold_teacher_bn=True))
        net.eval()
        assert left == sum(
            isinstance(module, torch.nn.BatchNorm2d) for module in model.teacher.modules()
        )
        images = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(
            model.teacher.logits(images), net(images, mode='tensor'), rtol=1e-3, atol=1e-4
        )

    def test_a_backbone_that_cannot_be_traced_is_refused(self, ckpt, monkeypatch):
        monkeypatch.setattr(toy.ToyBackbone, 'forward', lambda self, x: x if x.sum() else 0)
        with pytest.raises(ValueError, match='fold_teacher_bn.*set it to False'):
            build(ckpt, fold_teacher_bn=True)

    def test_the_teacher_moves_to_the_device_and_type_of_the_model(self, ckpt):
        model = build(ckpt, teacher=toy.classifier(width=6, preprocessor=OWN))
        assert model.to(torch.float64) is model
        assert {p.dtype for p in model.teacher.parameters()} == {torch.float64}
        x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
        logits = model.teacher.logits(x)
        assert logits.dtype == torch.float64
        model.to('meta')
        assert all(p.is_meta for p in model.teacher.parameters())
        assert model.teacher.inputs(x.to('meta')).is_meta

    def test_the_teacher_moves_with_a_module_that_contains_the_model(self, ckpt):
        model = build(ckpt)
        torch.nn.ModuleDict(dict(algorithm=model)).double()
        assert {p.dtype for p in model.teacher.parameters()} == {torch.float64}

    def test_an_ema_of_the_student_excludes_the_teacher(self, ckpt, tmp_path):
        """The EMA averages the student and does not change its training."""
        runners = []
        for i, hooks in enumerate([[dict(type='EMAHook', momentum=0.1)], []]):
            runners.append(
                toy.train(
                    toy.config(
                        toy.distillation(ckpt), tmp_path / str(i), toy.prkd_schedule(), *hooks
                    )
                )
            )
        (ema,) = (h for h in runners[0].hooks if isinstance(h, EMAHook))
        raw = dict(toy.student(runners[0]).named_parameters())
        assert ema.ema_model.module.teacher is runners[0].model.teacher  # no second one in memory
        assert list(ema.ema_model.avg_parameters) == [f'architecture.{name}' for name in raw]
        for name, value in raw.items():
            averaged = ema.ema_model.avg_parameters[f'architecture.{name}']
            assert not torch.equal(averaged, value)
        toy.assert_same(*(toy.student(r).state_dict() for r in runners))
        checkpoint = torch.load(tmp_path / '0/epoch_2.pth', weights_only=False)
        assert not any('teacher' in k for k in checkpoint['ema_state_dict'])

    def test_a_deep_copy_has_a_student_of_its_own_and_the_same_teacher(self, ckpt):
        model = build(ckpt).train()
        step(model)
        other = copy.deepcopy(model)
        assert other.teacher is model.teacher
        toy.assert_same(other.state_dict(), model.state_dict())
        toy.assert_same(losses(other.eval()), losses(model.eval()))
        with torch.no_grad():
            other.architecture.head.fc.weight.zero_()
        assert losses(model)['distill.loss_prkd'] != losses(other)['distill.loss_prkd']
        assert model.architecture.head.fc.weight.any()
        before = losses(model)
        other.double()  # EMA may be on another device
        toy.assert_same(losses(model), before)

    def test_recorders_are_empty_after_a_step(self, ckpt):
        model = build(ckpt).train()
        step(model)
        for manager in (model.distiller.student_recorders, model.distiller.teacher_recorders):
            assert not manager.recorders['logits'].data_buffer


class TestLoss:
    @pytest.mark.parametrize('mode', [True, False])
    @pytest.mark.parametrize('student_loss', [True, False])
    @pytest.mark.parametrize(
        'loss',
        [
            dict(type='mmrazor.PRKDLoss', cor_weight=0.5, intra_weight=0.5),
            dict(type='mmrazor.KLDivergence', tau=4.0),
        ],
        ids=lambda x: x['type'],
    )
    def test_the_losses_equal_those_of_mmrazors_algorithm(self, ckpt, mode, student_loss, loss):
        ours, theirs = (
            build(
                ckpt,
                algorithm=algorithm,
                calculate_student_loss=student_loss,
                distiller=toy.logits_distiller(loss_x=loss),
            )
            for algorithm in ('FrozenTeacherDistill', 'SingleTeacherDistill')
        )
        theirs.architecture.load_state_dict(ours.architecture.state_dict())
        ours.train(mode)
        theirs.train(mode)
        a, b = step(ours), step(theirs)
        assert set(a) == {'distill.loss_x'} | ({'student.loss'} if student_loss else set())
        toy.assert_same(a, b)
        toy.assert_same(
            [p.grad for p in ours.architecture.parameters()],
            [p.grad for p in theirs.architecture.parameters()],
        )

    def test_the_losses_equal_their_formulas(self, ckpt):
        """Cross-entropy of the student, and KL between the logits of both nets."""
        model = build(ckpt, student=toy.classifier(loss_weight=0.1)).eval()
        data = model.data_preprocessor(batch(), False)
        z_S = model.architecture(data['inputs'])
        z_T = pretrained(ckpt)(data['inputs'])
        labels = torch.arange(6) % 4
        log_S, log_T = (torch.log_softmax(z / 4, 1) for z in (z_S, z_T))
        kl = (log_T.exp() * (log_T - log_S)).sum(1).mean()
        result = losses(model)
        torch.testing.assert_close(
            result['student.loss'], 0.1 * torch.nn.functional.cross_entropy(z_S, labels)
        )
        torch.testing.assert_close(result['distill.loss_prkd'], 16 * kl)

    @pytest.mark.parametrize('mode', ['tensor', 'predict'])
    def test_other_modes_return_the_students_output(self, ckpt, mode):
        model = build(ckpt).eval()
        data = model.data_preprocessor(batch(), False)
        ours = model(**data, mode=mode)
        theirs = model.architecture(**data, mode=mode)
        if mode == 'predict':
            ours, theirs = ([x.pred_score for x in y] for y in (ours, theirs))
        toy.assert_same(ours, theirs)

    @pytest.mark.parametrize('augment', ['Mixup', 'CutMix'])
    def test_batch_augmentation_can_be_used(self, ckpt, tmp_path, augment):
        model = toy.distillation(ckpt)
        model['data_preprocessor']['batch_augments'] = dict(
            augments=[dict(type=augment, alpha=1.0)]
        )
        toy.train(toy.config(model, tmp_path))
        assert all(0 < line['loss'] < 20 for line in toy.logged(tmp_path) if 'loss' in line)

    @pytest.mark.parametrize('algorithm', ['FrozenTeacherDistill', 'StudentAlone'])
    @pytest.mark.parametrize('place', ['train_cfg', 'none', 'both'])
    def test_batch_augmentation_in_train_cfg_is_used_as_in_mmpretrain(self, ckpt, algorithm, place):
        model = config(ckpt, algorithm)
        if place != 'none':
            model['architecture']['train_cfg'] = dict(
                augments=[dict(type='mmpretrain.Mixup', alpha=0.8)]
            )
        if place == 'both':  # the preprocessor has priority
            model['data_preprocessor']['batch_augments'] = None
        stock = dict(model['architecture'], data_preprocessor=model['data_preprocessor'])
        ours = toy.build(model).data_preprocessor.batch_augments
        theirs = toy.build(stock).data_preprocessor.batch_augments
        assert (ours is not None) == (theirs is not None) == (place == 'train_cfg')
        if ours is not None:
            assert [type(x) for x in ours.augments] == [type(x) for x in theirs.augments]

    def test_batch_augmentation_of_a_student_of_another_package_is_used(self, ckpt):
        model = config(ckpt, 'StudentAlone')
        name = 'mmpretrain::resnet/resnet50_8xb16-mixup_cifar10.py'
        model['architecture'] = dict(cfg_path=name, pretrained=False)
        found = toy.build(model).data_preprocessor.batch_augments
        assert [type(each).__name__ for each in found.augments] == ['Mixup']

    @pytest.mark.parametrize('algorithm', ['FrozenTeacherDistill', 'StudentAlone'])
    def test_other_settings_in_the_students_own_preprocessor_are_an_error(self, ckpt, algorithm):
        model = config(ckpt, algorithm)
        model['architecture']['data_preprocessor'] = dict(mean=[127.5] * 3, std=[60.0] * 3)
        toy.build(model)  # the same settings as in the model's
        model['architecture']['data_preprocessor'] = dict(
            mean=(127.5,) * 3, std=(60.0,) * 3, to_rgb=False, batch_augments=None
        )
        toy.build(model)  # the same in effect
        model['architecture']['data_preprocessor'] = dict(mean=[0.0] * 3, std=[60.0] * 3)
        message = r'architecture.data_preprocessor.mean is not used.*mean=\[0.0, 0.0, 0.0\]\)'
        with pytest.raises(ValueError, match=message):
            toy.build(model)

    @pytest.mark.parametrize('algorithm', ['FrozenTeacherDistill', 'StudentAlone'])
    def test_without_one_of_the_model_the_students_own_preprocessor_is_used(self, ckpt, algorithm):
        model = config(ckpt, algorithm)
        model['architecture']['data_preprocessor'] = model.pop('data_preprocessor')
        assert toy.build(model).data_preprocessor.mean.flatten().tolist() == [127.5] * 3

    @pytest.mark.parametrize('algorithm', ['FrozenTeacherDistill', 'StudentAlone'])
    @pytest.mark.parametrize('built', [False, True])
    def test_the_type_of_the_preprocessor_has_a_default(self, ckpt, algorithm, built):
        model = config(ckpt, algorithm)
        model['data_preprocessor'] = {}
        if built:
            model['architecture'] = toy.build(model['architecture'])
        found = toy.build(model).data_preprocessor
        assert type(found).__name__ == 'ClsDataPreprocessor'


class TestMultiLabelHeads:
    @pytest.fixture
    def multi_label(self):
        def net(**kwargs):
            cfg = toy.classifier(**kwargs)
            cfg['head'].update(
                type='mmpretrain.MultiLabelLinearClsHead',
                loss=dict(type='mmpretrain.CrossEntropyLoss', use_sigmoid=True),
            )
            return cfg

        return net

    def test_a_loss_of_probabilities_is_an_error(self, ckpt, multi_label):
        with pytest.raises(
            ValueError, match='the student has .*MultiLabelLinearClsHead.*loss_prkd'
        ):
            build(ckpt, student=multi_label())
        with pytest.raises(ValueError, match='teacher has .*MultiLabelLinearClsHead'):
            build(ckpt, teacher=multi_label(width=6))

    @pytest.mark.parametrize('on_features', [False, True])
    def test_other_losses_are_accepted(self, ckpt, multi_label, on_features):
        if on_features:
            distiller = with_loss_on_features(loss_feature=dict(type='mmrazor.KLDivergence'))
        else:
            l2 = dict(type='mmrazor.L2Loss', normalize=False, div_element=True)
            distiller = toy.logits_distiller(loss_l2=l2)
            (mapping,) = distiller['loss_forward_mappings'].values()
            distiller['loss_forward_mappings'] = dict(
                loss_l2=dict(s_feature=mapping['preds_S'], t_feature=mapping['preds_T'])
            )
        nets = dict(student=multi_label(), teacher=multi_label(width=6))
        assert build(ckpt, distiller=distiller, **nets)
