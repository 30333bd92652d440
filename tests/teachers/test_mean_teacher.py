"""The mean of several teachers, live or stored, equals values computed by hand."""

import math
from pathlib import Path

import pytest
import torch
import toy

from prkd_mm.teachers import FrozenTeacher, MeanTeacher
from prkd_mm.teachers.fill_store import store_teacher
from prkd_mm.teachers.logit_store import TeacherLogits

TEACHERS = [toy.classifier(width=6), toy.classifier(width=5)]


@pytest.fixture(scope='module')
def ckpts(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ckpt')
    return [toy.save_teacher(folder / f'{i}.pth', cfg) for i, cfg in enumerate(TEACHERS)]


def nets(ckpts):
    for cfg, ckpt in zip(TEACHERS, ckpts):
        net = toy.build(cfg)
        net.load_state_dict(torch.load(ckpt)['state_dict'])
        yield net.eval()


def config(ckpts, **kwargs):
    return dict(toy.distillation(**kwargs), teacher=TEACHERS, teacher_ckpt=ckpts)


def build(ckpts, **kwargs):
    return toy.build(config(ckpts, **kwargs))


def images():
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_mean_is_that_of_the_logits(ckpts):
    one, other = (net(images()) for net in nets(ckpts))
    model = build(ckpts).train()
    torch.testing.assert_close(model.teacher.logits(images()), (one + other) / 2)


@torch.no_grad()
@pytest.mark.parametrize('tau', [1.0, 4.0])
def test_the_mean_can_be_that_of_the_probabilities(ckpts, tau):
    one, other = (net(images()) for net in nets(ckpts))
    model = build(ckpts, teacher_mean=dict(of='probabilities', tau=tau))
    softened = (model.teacher.logits(images()) / tau).softmax(1)
    torch.testing.assert_close(softened, ((one / tau).softmax(1) + (other / tau).softmax(1)) / 2)


@torch.no_grad()
def test_mean_of_equal_teachers_is_the_teacher(ckpts):
    net = next(nets(ckpts))
    teachers = [FrozenTeacher(net), FrozenTeacher(net)]
    for of in ('logits', 'probabilities'):
        mean = MeanTeacher(teachers, of=of, tau=2.0).logits(images())
        # logits are determined up to a constant for each image
        torch.testing.assert_close(mean.softmax(1), net(images()).softmax(1))


def test_a_student_is_trained_and_the_mean_is_validated(ckpts, tmp_path):
    cfg = toy.config(
        config(ckpts), tmp_path, toy.prkd_schedule(), dict(type='TeacherCheckHook', min_top1=30)
    )
    runner = toy.train(cfg)
    (top1,) = {
        row['teacher/accuracy/top1']
        for row in toy.logged(tmp_path)
        if 'teacher/accuracy/top1' in row
    }
    dataset = runner.val_dataloader.dataset
    x = torch.stack([torch.from_numpy(s['img']).permute(2, 0, 1) for s in dataset.load_data_list()])
    with torch.no_grad():
        one, other = (net((x - 127.5) / 60) for net in nets(ckpts))
    hits = (one + other).argmax(1) == torch.tensor(dataset.get_gt_labels())
    assert top1 == pytest.approx(100 * hits.float().mean().item())
    assert all(name.startswith('architecture.') for name in runner.model.state_dict())
    assert not any(p.requires_grad for p in runner.model.teacher.parameters())


def test_the_mean_of_stored_teachers_is_validated_if_they_are_available(ckpts, tmp_path):
    folders = []
    for i, (teacher, ckpt) in enumerate(zip(TEACHERS, ckpts)):
        cfg = toy.config(dict(toy.distillation(ckpt), teacher=teacher), tmp_path)
        toy.pack(cfg)
        folders.append(str(tmp_path / f'logits{i}'))
        store_teacher(cfg, Path(folders[-1]), 2)

    def run(name, logits):
        cfg = toy.config(
            config(ckpts), tmp_path / name, dict(type='TeacherCheckHook', min_top1=30), epochs=2
        )
        toy.pack(cfg)
        cfg.model.teacher_logits = logits
        toy.train(cfg)
        return [row for row in toy.logged(tmp_path / name) if 'teacher/accuracy/top1' in row]

    assert run('stored', folders) == run('live', None) != []


def store(folder, ckpt_logits, seed=0):
    made = TeacherLogits.create(
        folder, 1, 6, 4, teacher='t', source='s', seed=seed, normalization=[False]
    )
    for chunk in made.missing():
        made.put(chunk, ckpt_logits)
    return str(folder)


def stored(folders, **kwargs):
    cfg = toy.distillation(**kwargs)
    cfg['data_preprocessor'] = dict(type='mmpretrain.BatchClsDataPreprocessor')
    return toy.build(dict(cfg, teacher=None, teacher_logits=folders))


def test_stored_logits_can_be_averaged(ckpts, tmp_path):
    logits = [torch.randn(6, 4) for _ in range(2)]
    folders = [store(tmp_path / str(i), z) for i, z in enumerate(logits)]
    model = stored(folders)
    sample = model.data_preprocessor._whole(torch.zeros(6), view=0, source='s')[0]
    sample.set_field(torch.arange(6), 'sample_idx', field_type='metainfo')
    mean = model.teacher.logits(images(), [sample])
    torch.testing.assert_close(mean, (logits[0] + logits[1]) / 2, rtol=1e-3, atol=1e-3)
    assert model.teacher.metrics(None) == {}
    sample = model.teacher.stored_logits(3)
    pairs = ((logits[0] + logits[1]) / 2).view(3, 2, 4)  # one of each is drawn
    assert ((pairs - sample[:, None]).abs().amax(2).amin(1) < 1e-2).all()


def test_stores_of_different_views_are_refused(tmp_path):
    folders = [store(tmp_path / str(i), torch.randn(6, 4), seed=i) for i in range(2)]
    with pytest.raises(ValueError, match='the same views of the images'):
        stored(folders)


def test_fingerprint_depends_on_the_kind_of_mean(ckpts):
    options = [{}, dict(of='probabilities'), dict(of='probabilities', tau=4.0)]
    fingerprints = {build(ckpts, teacher_mean=mean).teacher.fingerprint() for mean in options}
    assert len(fingerprints) == 3


@pytest.mark.parametrize(
    'mean, words',
    [
        (dict(of='median'), "'logits' or 'probabilities', got 'median'"),
        (dict(of='probabilities', tau=0), 'must be positive, got 0'),
    ],
)
def test_a_bad_mean_is_refused(ckpts, mean, words):
    with pytest.raises(ValueError, match=words):
        build(ckpts, teacher_mean=mean)


def test_bad_lists_are_refused(ckpts):
    with pytest.raises(ValueError, match=r'lists of the same length, got the lengths \[1, 2\]'):
        build(ckpts[:1])
    with pytest.raises(ValueError, match='teacher_mean needs a list'):
        toy.build(toy.distillation(ckpts[0], teacher_mean=dict(of='logits')))
    with pytest.raises(ValueError, match=r'the same number of classes, got \[4, 7\]'):
        MeanTeacher([FrozenTeacher(toy.build(toy.classifier(num_classes=n))) for n in (4, 7)])


def test_softened_mean_is_finite_for_large_logits():
    net = toy.build(toy.classifier())
    teachers = [FrozenTeacher(net), FrozenTeacher(net)]
    mean = MeanTeacher(teachers, of='probabilities')
    with torch.no_grad():
        result = mean.logits(1e4 * images())
    assert math.isfinite(result.sum())
