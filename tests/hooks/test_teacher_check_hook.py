import pytest
import torch
import toy
from torch import nn

from prkd_mm.hooks import TeacherCheckHook
from prkd_mm.teachers.fill_store import store_teacher

PREPROCESSOR = dict(mean=[127.5] * 3, std=[60.0] * 3)  # preprocessor of the student
OWN = dict(mean=[100.0, 110.0, 120.0], std=[50.0, 60.0, 70.0], to_rgb=True)


def top1(teacher_cfg, ckpt, preprocessor, dataset):
    """The teacher as a plain classifier, on images in its own normalization."""
    net = toy.build(
        dict(
            teacher_cfg,
            data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', **preprocessor),
        )
    ).eval()
    net.load_state_dict(torch.load(ckpt)['state_dict'])
    images = torch.stack(
        [torch.from_numpy(sample['img']).permute(2, 0, 1) for sample in dataset.load_data_list()]
    )
    x = net.data_preprocessor(dict(inputs=images))['inputs']
    hits = net(x).argmax(1) == torch.tensor(dataset.get_gt_labels())
    return 100 * hits.float().mean().item()


def config(ckpt, tmp_path, hook, algorithm='FrozenTeacherDistill', **kwargs):
    return toy.config(
        toy.distillation(ckpt, algorithm=algorithm, **kwargs),
        tmp_path,
        toy.prkd_schedule(),
        dict(type='TeacherCheckHook', **hook),
        log_level='INFO',
    )


@pytest.mark.parametrize('algorithm', ['FrozenTeacherDistill', 'SingleTeacherDistill'])
@pytest.mark.parametrize('augment', [None, 'Mixup'])
def test_the_logged_metric_is_that_of_the_teacher(ckpt, tmp_path, algorithm, augment):
    cfg = config(ckpt, tmp_path, {}, algorithm)
    if augment:  # applied in training only
        cfg.model.data_preprocessor.batch_augments = dict(augments=[dict(type=augment, alpha=1.0)])
    runner = toy.train(cfg)
    expected = top1(toy.classifier(width=6), ckpt, PREPROCESSOR, runner.val_dataloader.dataset)
    assert 40 < expected < 100  # above chance, and not perfect
    lines = [line for line in toy.logged(tmp_path) if 'teacher/accuracy/top1' in line]
    assert [line['teacher/accuracy/top1'] for line in lines] == [pytest.approx(expected)]
    assert f'accuracy/top1: {expected:.4f}' in toy.log_text(tmp_path)


def test_images_are_in_the_teachers_own_normalization(ckpt, tmp_path):
    teacher = toy.classifier(width=6, preprocessor=OWN)
    runner = toy.train(config(ckpt, tmp_path, {}, teacher=teacher))
    logged = [
        line['teacher/accuracy/top1']
        for line in toy.logged(tmp_path)
        if 'teacher/accuracy/top1' in line
    ]
    dataset = runner.val_dataloader.dataset
    assert logged == [pytest.approx(top1(teacher, ckpt, OWN, dataset))]
    assert logged[0] != top1(teacher, ckpt, PREPROCESSOR, dataset)


def test_the_check_does_not_change_the_run(ckpt, tmp_path):
    states = []
    for i, hooks in enumerate([[dict(type='TeacherCheckHook')], []]):
        runner = toy.train(
            toy.config(
                toy.distillation(ckpt, student=toy.classifier(dropout=0.3)),
                tmp_path / str(i),
                toy.prkd_schedule(),
                *hooks,
                epoch_seed=False,
            )
        )
        states.append(runner.model.state_dict())
    toy.assert_same(*states)


def test_a_teacher_above_min_top1_passes(ckpt, tmp_path):
    assert toy.train(config(ckpt, tmp_path, dict(min_top1=40))).iter == 8


class TestErrors:
    def raises(self, cfg, match):
        runner = toy.start(cfg)
        with pytest.raises(ValueError, match=match), toy.quickly():
            runner.train()
        assert runner.iter == 0

    def test_a_teacher_below_min_top1_stops_the_run(self, ckpt, tmp_path):
        self.raises(
            config(ckpt, tmp_path, dict(min_top1=99.5)),
            r'reaches \d\d\.\d\d % top-1, below min_top1=99.5. Check',
        )

    def test_a_model_without_a_teacher_is_an_error(self, tmp_path):
        self.raises(
            toy.config(toy.classifier(), tmp_path, dict(type='TeacherCheckHook')),
            'no teacher; remove the hook',
        )

    def test_a_missing_validation_set_is_an_error_only_with_min_top1(self, ckpt, tmp_path):
        without = dict(val_dataloader=None, val_cfg=None, val_evaluator=None)
        cfg = config(ckpt, tmp_path, dict(min_top1=10))
        cfg.merge_from_dict(without)
        self.raises(cfg, 'min_top1 needs a validation set; add one or remove min_top1')
        cfg = config(ckpt, tmp_path, {})
        cfg.merge_from_dict(without)
        runner = toy.start(cfg)
        with toy.quickly():
            runner.train()  # without min_top1 it only warns
        assert runner.iter > 0

    def test_a_missing_metric_is_named(self, ckpt, tmp_path):
        cfg = config(ckpt, tmp_path, dict(min_top1=10))
        cfg.val_evaluator = dict(type='SingleLabelMetric')
        self.raises(cfg, r"accuracy/top1, got \['single-label/f1-score'.*add")

    @pytest.mark.parametrize('value', [-1, 101, 100.5])
    def test_min_top1_must_be_a_percentage(self, value):
        with pytest.raises(ValueError, match=rf'in \[0, 100\], got {value}'):
            TeacherCheckHook(min_top1=value)


def test_a_teacher_that_guesses_is_an_error_without_min_top1(tmp_path):
    """One class for all images: exactly chance on as many images of each class."""
    net = toy.build(toy.classifier(width=6))
    state = {name: torch.zeros_like(value) for name, value in net.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'zeros.pth')
    cfg = config(tmp_path / 'zeros.pth', tmp_path, {})
    cfg.val_dataloader.dataset.size = 100
    with pytest.raises(ValueError, match=r'25\.00 % top-1, no better than guessing among 4'):
        toy.train(cfg)


def test_a_teacher_whose_logits_are_nan_is_an_error_without_min_top1(ckpt, tmp_path):
    state = torch.load(ckpt)['state_dict']
    state['head.fc.bias'][0] = float('nan')
    torch.save(dict(state_dict=state), tmp_path / 'nan.pth')
    with pytest.raises(ValueError, match='logits that are not finite'):
        toy.train(config(tmp_path / 'nan.pth', tmp_path, {}))


class TestOutputs:
    """The outputs of teachers from files, before the softmax of the head."""

    def teacher(self, tmp_path, *last, classes=toy.NUM_CLASSES):
        torch.manual_seed(0)
        layers = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes), *last
        path = str(tmp_path / 'net.pt')
        torch.jit.script(nn.Sequential(*layers)).save(path)
        return path

    def stops(self, cfg, match):
        runner = toy.start(cfg)
        with pytest.raises(ValueError, match=match), toy.quickly():
            runner.train()
        assert runner.iter == 0

    @pytest.mark.parametrize('several', [False, True])
    def test_probabilities_are_an_error(self, ckpt, tmp_path, several):
        teacher, checkpoint = self.teacher(tmp_path, nn.Softmax(1)), None
        if several:
            teacher, checkpoint = [toy.classifier(width=6), teacher], [ckpt, None]
        cfg = config(None, tmp_path, {}, teacher=teacher)
        cfg.model.teacher_ckpt = checkpoint
        self.stops(cfg, 'probabilities, not logits.*remove the softmax')

    @pytest.mark.parametrize('views', ['stored', 'filled'])
    def test_stored_probabilities_are_an_error(self, tmp_path, views):
        cfg = config(None, tmp_path, {}, teacher=self.teacher(tmp_path, nn.Softmax(1)))
        toy.pack(cfg)
        folder = str(tmp_path / 'logits')
        if views == 'stored':
            cfg.train_dataloader.dataset.pipeline = [dict(type='PackInputs')]
            store_teacher(cfg, tmp_path / 'logits', views=1)
            cfg.model.teacher_logits = folder
        else:
            cfg.model.teacher_logits = dict(views=1, folder=folder)
            cfg.custom_hooks.append(dict(type='mmengine.FillStoreHook'))
        self.stops(cfg, 'probabilities, not logits')

    @pytest.mark.parametrize('last', [[], [nn.Softplus()], [nn.LogSoftmax(1)], [nn.Sigmoid()]])
    def test_other_outputs_are_accepted(self, tmp_path, last):
        assert toy.train(config(None, tmp_path, {}, teacher=self.teacher(tmp_path, *last))).iter

    def test_another_number_of_classes_is_an_error_before_the_first_batch(self, tmp_path):
        teacher = self.teacher(tmp_path, classes=7)
        cfg = config(None, tmp_path, {}, teacher=teacher)
        self.stops(cfg, 'student has 4 classes, but the teacher computes 7 outputs')
