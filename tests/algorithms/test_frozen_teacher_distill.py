import copy
import re

import pytest
import torch
import toy
from mmengine.hooks import EMAHook
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS
from project import ROOT

from prkd_mm.config import load_config

STUDENT = dict(mean=[127.5] * 3, std=[60.0] * 3)  # the student in toy.distillation
OWN = dict(mean=[100.0, 110.0, 120.0], std=[50.0, 60.0, 70.0])


def batch(n=6, channels=3):
    """Raw images and their labels, as a data loader returns them."""
    torch.manual_seed(0)
    samples = [DataSample().set_gt_label(i % 4) for i in range(n)]
    return dict(inputs=torch.randint(256, (n, channels, 8, 8)), data_samples=samples)


def build(ckpt, **kwargs):
    torch.manual_seed(2)
    return toy.build(toy.distillation(ckpt, **kwargs))


def losses(model):
    data = model.data_preprocessor(batch(), False)
    return model(**data, mode='loss')


def step(model):
    """Compute losses and gradients; returns the losses."""
    result = losses(model)
    sum(result.values()).backward()
    return result


def pretrained(ckpt, width=6):
    net = toy.build(toy.classifier(width=width))
    net.load_state_dict(torch.load(ckpt)['state_dict'])
    return net.eval()


class TestLoading:
    def test_has_the_weights_of_the_file(self, ckpt):
        toy.assert_same(build(ckpt).teacher.net.state_dict(), torch.load(ckpt)['state_dict'])

    def test_init_weights_keeps_them(self, ckpt, tmp_path):
        runner = toy.train(toy.config(toy.distillation(ckpt), tmp_path))
        toy.assert_same(runner.model.teacher.net.state_dict(), torch.load(ckpt)['state_dict'])

    def test_missing_file_is_named_with_the_training_command(self):
        with pytest.raises(FileNotFoundError) as error:
            build('no/such.pth', teacher_config='configs/teachers/big.py')
        assert "'no/such.pth'" in str(error.value)
        assert '\n  python tools/train.py configs/teachers/big.py' in str(error.value)

    def test_missing_file_without_a_training_config(self):
        with pytest.raises(FileNotFoundError, match='no/such.pth') as error:
            build('no/such.pth')
        assert 'tools/train.py' not in str(error.value)

    def test_missing_checkpoint_is_refused(self):
        with pytest.raises(
            ValueError, match='teacher_ckpt is missing.*random(.|\n)*train.py configs/x.py'
        ):
            build(None, teacher_config='configs/x.py')

    def test_ready_built_teacher_needs_no_file(self, ckpt):
        net = pretrained(ckpt)
        state = copy.deepcopy(net.state_dict())
        toy.assert_same(build(None, teacher=net).teacher.net.state_dict(), state)

    def test_another_architecture_is_refused(self, ckpt):
        with pytest.raises(ValueError) as error:
            build(ckpt, teacher=toy.classifier(width=5))
        for words in (
            repr(ckpt),
            'of another shape',
            'backbone.conv1.weight: (6, 3, 3, 3) in the file, (5, 3, 3, 3) in the model',
        ):
            assert words in str(error.value)

    def test_another_class_count_is_refused(self, ckpt):
        with pytest.raises(
            ValueError, match=re.escape('head.fc.weight: (4, 6) in the file, (7, 6) in the model')
        ):
            build(ckpt, teacher=toy.classifier(width=6, num_classes=7))

    @pytest.mark.parametrize('change', ['missing', 'unexpected'])
    def test_missing_and_unexpected_names_are_refused(self, ckpt, tmp_path, change):
        checkpoint = torch.load(ckpt)
        state = dict(checkpoint['state_dict'])
        if change == 'missing':
            del state['head.fc.bias']
        else:
            state['foo.bar'] = torch.ones(1)
        torch.save(dict(state_dict=state), tmp_path / 'c.pth')
        with pytest.raises(ValueError, match=f'1 {change}: '):
            build(tmp_path / 'c.pth')

    def test_student_with_another_class_count_is_refused(self, ckpt):
        with pytest.raises(ValueError, match='student has 5 classes and the teacher 4'):
            build(ckpt, student=toy.classifier(num_classes=5))

    @pytest.mark.parametrize(
        'option', [dict(teacher_trainable=True), dict(student_trainable=False)], ids=str
    )
    def test_trainable_teachers_are_refused(self, ckpt, option):
        with pytest.raises(ValueError, match="type='SingleTeacherDistill'"):
            build(ckpt, **option)

    @pytest.mark.parametrize('algorithm', ['FrozenTeacherDistill', 'SingleTeacherDistill'])
    def test_distilled_student_becomes_teacher(self, ckpt, tmp_path, algorithm):
        runner = toy.train(
            toy.config(
                toy.distillation(ckpt, algorithm=algorithm),
                tmp_path,
                toy.prkd_schedule(),
                dict(type='TailAverageHook', num_epochs=1),
            )
        )
        net = toy.classifier()  # the teacher's config is now the student's
        for file in (tmp_path, tmp_path / 'epoch_2.pth'):
            toy.assert_same(
                build(file, teacher=net).teacher.net.state_dict(), toy.student(runner).state_dict()
            )
        average = build(tmp_path / 'student_avg.pth', teacher=net)
        toy.assert_same(
            average.teacher.net.state_dict(), torch.load(tmp_path / 'student_avg.pth')['state_dict']
        )


class TestTeacherIsOutsideTheModel:
    def test_is_no_part_of_the_module_tree(self, ckpt):
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

    def test_is_in_neither_optimizer_nor_checkpoint(self, ckpt, tmp_path):
        runner = toy.train(toy.config(toy.distillation(ckpt), tmp_path))
        groups = runner.optim_wrapper.optimizer.param_groups
        optimized = {id(p) for group in groups for p in group['params']}
        assert optimized == {id(p) for p in toy.student(runner).parameters()}
        checkpoint = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
        assert all(name.startswith('architecture.') for name in checkpoint['state_dict'])
        assert len(checkpoint['optimizer']['state']) == len(optimized)

    def test_training_leaves_its_weights_unchanged(self, ckpt, tmp_path):
        runner = toy.train(
            toy.config(
                toy.distillation(ckpt, teacher=toy.classifier(width=6, dropout=0.5)), tmp_path
            )
        )
        toy.assert_same(runner.model.teacher.net.state_dict(), torch.load(ckpt)['state_dict'])
        assert all(p.grad is None for p in runner.model.teacher.parameters())

    def test_is_always_in_evaluation_mode(self, ckpt):
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

    def test_gives_logits_only_without_gradient_or_labels(self, ckpt, monkeypatch):
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
    def test_is_not_called_after_distillation_has_stopped(self, ckpt, monkeypatch, stopped):
        model = build(ckpt)
        model.distillation_stopped = stopped
        if stopped:
            monkeypatch.setattr(model.teacher.net, 'forward', None)
        assert ('distill.loss_prkd' in losses(model)) is not stopped

    def test_folded_batch_norms_leave_its_logits_unchanged(self, ckpt):
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
    def test_folds_real_nets(self, config, left, tmp_path):
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

    def test_moves_to_the_models_device_and_type(self, ckpt):
        model = build(ckpt, teacher=toy.classifier(width=6, preprocessor=OWN))
        assert model.to(torch.float64) is model
        assert {p.dtype for p in model.teacher.parameters()} == {torch.float64}
        x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
        logits = model.teacher.logits(x)
        assert logits.dtype == torch.float64
        model.to('meta')
        assert all(p.is_meta for p in model.teacher.parameters())
        assert model.teacher.inputs(x.to('meta')).is_meta

    def test_moves_with_a_module_that_contains_the_model(self, ckpt):
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
        assert list(ema.ema_model.avg_parameters) == [f'architecture.{name}' for name in raw]
        for name, value in raw.items():
            averaged = ema.ema_model.avg_parameters[f'architecture.{name}']
            assert not torch.equal(averaged, value)
        toy.assert_same(*(toy.student(r).state_dict() for r in runners))
        checkpoint = torch.load(tmp_path / '0/epoch_2.pth', weights_only=False)
        assert not any('teacher' in k for k in checkpoint['ema_state_dict'])

    def test_a_deep_copy_is_independent(self, ckpt):
        model = build(ckpt).train()
        step(model)
        other = copy.deepcopy(model)
        assert other.teacher is not model.teacher
        toy.assert_same(other.state_dict(), model.state_dict())
        toy.assert_same(losses(other.eval()), losses(model.eval()))
        with torch.no_grad():
            other.teacher.net.head.fc.weight.zero_()
            other.architecture.head.fc.weight.zero_()
        assert losses(model)['distill.loss_prkd'] != losses(other)['distill.loss_prkd']
        assert model.teacher.net.head.fc.weight.any()

    def test_keeps_no_graph_alive(self, ckpt):
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
    def test_equals_mmrazors_algorithm(self, ckpt, mode, student_loss, loss):
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

    def test_equals_the_loss_by_hand(self, ckpt):
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
    def test_trains_with_batch_augmentation(self, ckpt, tmp_path, augment):
        model = toy.distillation(ckpt)
        model['data_preprocessor']['batch_augments'] = dict(
            augments=[dict(type=augment, alpha=1.0)]
        )
        toy.train(toy.config(model, tmp_path))
        assert all(0 < line['loss'] < 20 for line in toy.logged(tmp_path) if 'loss' in line)


class TestOwnNormalization:
    """The teacher receives what its own preprocessor produces from the raw images."""

    CLS, IMG = 'mmpretrain.ClsDataPreprocessor', 'mmengine.ImgDataPreprocessor'

    @pytest.mark.parametrize(
        'student, teacher',
        [
            (dict(STUDENT, type=CLS), dict(STUDENT, type=CLS)),
            (dict(STUDENT, type=CLS), dict(OWN, type=CLS)),
            (dict(STUDENT, type=CLS), dict(OWN, type=CLS, to_rgb=True)),
            (dict(OWN, type=CLS, to_rgb=True), dict(STUDENT, type=CLS)),
            (dict(OWN, type=CLS, to_rgb=True), dict(OWN, type=CLS, to_rgb=True)),
            (dict(OWN, type=CLS, to_rgb=True), dict(OWN, type=CLS)),
            (dict(type=CLS), dict(OWN, type=CLS, to_rgb=True)),
            (dict(type=CLS, to_rgb=True), dict(OWN, type=CLS)),
            (dict(OWN, type=IMG, bgr_to_rgb=True), dict(OWN, type=CLS)),
            (dict(OWN, type=CLS), dict(STUDENT, type=IMG, rgb_to_bgr=True)),
            (
                dict(mean=[0, 0, 0], std=[255, 255, 255], type=CLS),
                dict(mean=[1, 2, 3], std=[4, 5, 6], type=CLS, to_rgb=True),
            ),
        ],
    )
    def test_inputs_are_those_of_its_own_preprocessor(self, ckpt, student, teacher):
        teacher_cfg = dict(toy.classifier(width=6), data_preprocessor=MODELS.build(teacher))
        cfg = dict(toy.distillation(ckpt, teacher=teacher_cfg), data_preprocessor=student)
        model = MODELS.build(cfg).eval()
        raw = list(batch()['inputs'].to(torch.uint8))  # one tensor per image
        own = MODELS.build(teacher)(dict(inputs=raw))['inputs']
        ours = model.data_preprocessor(dict(inputs=raw))['inputs']
        torch.testing.assert_close(model.teacher.inputs(ours), own, rtol=1e-5, atol=1e-5)

        seen = []
        model.teacher.net.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
        model(ours, batch()['data_samples'], mode='loss')
        torch.testing.assert_close(seen[0], own, rtol=1e-5, atol=1e-5)

    def test_gray_images(self, tmp_path):
        grey = toy.classifier(width=6, in_channels=1, preprocessor=dict(mean=[100.0], std=[50.0]))
        ckpt = toy.save_teacher(tmp_path / 't.pth', grey)
        cfg = toy.distillation(ckpt, teacher=grey, student=toy.classifier(in_channels=1))
        cfg['data_preprocessor'].update(mean=[127.5], std=[60.0])
        model = MODELS.build(cfg)
        raw = batch(channels=1)['inputs']
        ours = model.data_preprocessor(dict(inputs=raw))['inputs']
        torch.testing.assert_close(model.teacher.inputs(ours), (raw - 100.0) / 50.0)

    def test_teacher_without_one_receives_the_students_inputs(self, ckpt):
        x = torch.randn(2, 3, 8, 8)
        assert build(ckpt).teacher.inputs(x) is x
