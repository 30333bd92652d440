"""Training on stored logits equals training with the teacher, or is refused."""

import copy
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
import toy
from mmengine.runner import Runner

from prkd_mm.datasets import BatchClsDataPreprocessor
from prkd_mm.evaluation import unwrap
from prkd_mm.teachers import FrozenTeacher
from prkd_mm.teachers.fill_store import create_store, store_teacher
from prkd_mm.teachers.logit_store import TeacherLogits, hash_of_weights
from prkd_mm.teachers.teacher import Teacher

VIEWS = 2


def config(ckpt, folder, logits=None, min_top1=None, epochs=3, **options):
    """Config of a run on packed images, with the views of the store."""
    cfg = toy.config(
        toy.distillation(ckpt),
        folder,
        toy.prkd_schedule(),
        dict(type='TeacherCheckHook', min_top1=min_top1),
        dict(type='TailAverageHook', num_epochs=2),
        epochs=epochs,
    )
    toy.pack(cfg)
    if logits:
        cfg.model.teacher_logits = str(logits)
    else:
        cfg.model.data_preprocessor.update(views=VIEWS, seed=0)
    cfg.merge_from_dict(options)
    return cfg


@pytest.fixture(scope='module')
def store(ckpt, tmp_path_factory):
    folder = tmp_path_factory.mktemp('store')
    store_teacher(config(ckpt, folder), folder / 'logits', VIEWS, batch_size=7)
    return folder / 'logits'


def test_logits_are_those_of_the_teacher_on_the_same_views(ckpt, store, tmp_path):
    live = unwrap(toy.start(config(ckpt, tmp_path / 'a')).model).eval()
    runner = toy.start(config(ckpt, tmp_path / 'b', store))
    stored = unwrap(runner.model)
    loader = Runner.build_dataloader(runner.cfg.train_dataloader)
    for epoch in range(2 * VIEWS):
        for batch in loader:
            for model in (live, stored):
                model.data_preprocessor.epoch = epoch
            ours = stored.data_preprocessor(batch, True)
            theirs = live.data_preprocessor(batch, True)
            assert torch.equal(ours['inputs'], theirs['inputs'])
            logits = live.teacher.logits(theirs['inputs'])
            torch.testing.assert_close(
                stored.teacher.logits(**ours), logits, rtol=2**-10, atol=1e-4
            )


def test_training_equals_that_with_the_live_teacher_which_is_released(ckpt, store, tmp_path):
    live = toy.train(config(ckpt, tmp_path / 'live'))
    stored = toy.train(config(ckpt, tmp_path / 'stored', store))
    assert unwrap(stored.model).teacher.live is None
    assert not list(unwrap(stored.model).teacher.parameters())
    # rounding errors grow with every step, so compare after the first epoch
    one, other = (
        torch.load(tmp_path / f'{name}/epoch_1.pth')['state_dict'] for name in ('live', 'stored')
    )
    for name in one:
        torch.testing.assert_close(other[name], one[name], rtol=0, atol=2e-3)
    name = 'head.fc.weight'
    now = toy.student(live).state_dict()[name]
    assert (now - one[f'architecture.{name}']).abs().max() > 0.02
    # the teacher's accuracy comes from the store
    expected = [row for row in toy.logged(tmp_path / 'live') if 'teacher/accuracy/top1' in row]
    assert (
        expected
        == [row for row in toy.logged(tmp_path / 'stored') if 'teacher/accuracy/top1' in row]
        != []
    )


def test_a_resumed_run_has_the_same_weights(ckpt, store, tmp_path):
    straight = toy.train(config(ckpt, tmp_path / 'straight', store))
    resumed = toy.resume(
        config(ckpt, tmp_path / 'resumed', store), tmp_path / 'straight/epoch_1.pth'
    )
    toy.assert_same(toy.student(resumed).state_dict(), toy.student(straight).state_dict())


@pytest.mark.parametrize(
    'change',
    [
        {'train_dataloader.dataset.dataset.seed': 8},
        {'train_dataloader.dataset.dataset.size': 40},
        {'train_dataloader.dataset.dataset.pipeline.0.padding': 2},
        # the same number of images and labels, but other pixels
        {
            'train_dataloader.dataset.dataset.channels': 3,
            'train_dataloader.dataset.dataset.seed': 1,
        },
        {'train_dataloader.dataset.dataset.metainfo': dict(classes='dcba')},
    ],
)
def test_other_images_are_refused_before_the_first_step(ckpt, store, tmp_path, change):
    runner = toy.start(config(ckpt, tmp_path, store, **change))
    with toy.quickly():
        runner.model.init_weights()
    before = {k: v.clone() for k, v in toy.student(runner).named_parameters()}
    with pytest.raises(ValueError, match='source is'), toy.quickly():
        runner.train()
    assert runner.iter == 0
    toy.assert_same(dict(toy.student(runner).named_parameters()), before)


@pytest.mark.parametrize('change', [dict(mean=[1.0] * 3), dict(to_rgb=True)])
def test_another_normalization_is_refused(ckpt, store, tmp_path, change):
    with pytest.raises(ValueError, match='normalization is'):
        toy.start(
            config(
                ckpt,
                tmp_path,
                store,
                **{f'model.data_preprocessor.{key}': value for key, value in change.items()},
            )
        )


def test_mixed_images_missing_space_and_missing_weights_are_refused(ckpt, tmp_path, monkeypatch):
    cfg = config(ckpt, tmp_path, 'none')  # a store that does not exist yet
    mixed = copy.deepcopy(cfg)
    mixed.model.data_preprocessor.update(
        num_classes=4, batch_augments=dict(augments=dict(type='mmpretrain.Mixup', alpha=1.0))
    )
    with pytest.raises(ValueError, match='only be stored for single images'):
        store_teacher(mixed, tmp_path / 'a', 1)
    monkeypatch.setattr('shutil.disk_usage', lambda path: SimpleNamespace(free=255))
    with pytest.raises(OSError, match=f'not enough space on {tmp_path}'):
        store_teacher(cfg, tmp_path / 'a/b', 1)
    monkeypatch.undo()
    store_teacher(cfg, tmp_path / 'a/b', 1)
    cfg.model.teacher_ckpt = None
    with pytest.raises(ValueError, match='teacher_ckpt is missing'):
        store_teacher(cfg, tmp_path / 'c', 1)
    with pytest.raises(ValueError, match='head of the teacher or of the student has num_classes'):
        create_store(tmp_path, Teacher(torch.nn.Identity()), BatchClsDataPreprocessor(), [], 1)


def test_compile_hook_runs_without_a_live_teacher(ckpt, store, tmp_path):
    cfg = config(ckpt, tmp_path, store, epochs=2)
    cfg.custom_hooks.append(dict(type='CompileHook', backend='eager'))
    runner = toy.train(cfg)
    assert toy.student(runner).backbone._compiled_call_impl is not None


def changed(ckpt):
    """The file of a teacher, with another bias."""
    checkpoint = torch.load(ckpt)
    checkpoint['state_dict']['head.fc.bias'] += 1
    torch.save(checkpoint, ckpt)
    return ckpt


def test_another_teacher_is_refused(store, tmp_path):
    other = changed(toy.save_teacher(tmp_path / 'other.pth'))
    with pytest.raises(ValueError, match='teacher is'):
        toy.start(config(other, tmp_path, store))
    other = toy.save_teacher(tmp_path / 'other.pth', toy.classifier(width=5))
    with pytest.raises(ValueError, match='teacher checkpoint .* does not fit the model'):
        toy.start(config(other, tmp_path, store))


def test_another_normalization_of_the_teachers_own_is_refused(ckpt, store, tmp_path):
    def own(mean, logits=None, **options):
        cfg = config(ckpt, tmp_path, logits)
        kind = dict(type='mmpretrain.ClsDataPreprocessor')
        cfg.model.teacher.data_preprocessor = dict(kind, mean=[mean] * 3, std=[60.0] * 3, **options)
        return cfg

    folder = tmp_path / 'logits'
    store_teacher(own(0.0), folder, VIEWS)
    toy.start(own(0, folder))
    assert 'not verified' not in toy.log_text(tmp_path)
    for other in (dict(mean=78.0), dict(mean=0.0, to_rgb=True)):
        with pytest.raises(ValueError, match='teacher is'):
            toy.start(own(**other, logits=folder))
        with pytest.raises(ValueError, match='teacher is'):
            store_teacher(own(**other), folder, VIEWS)
    with pytest.raises(ValueError, match='teacher is'):  # that of the same weights without any
        toy.start(config(ckpt, tmp_path, folder))
    # a plain teacher is identified by its weights alone
    assert TeacherLogits(store).header['teacher'] == hash_of_weights(torch.load(ckpt)['state_dict'])


def test_the_teachers_image_size_identifies_it():
    net = toy.build(toy.classifier())
    teachers = [FrozenTeacher(net, image_size=size) for size in (None, 8, 16)]
    assert len({teacher.fingerprint() for teacher in teachers}) == 3


def test_training_needs_no_checkpoint_of_the_teacher(store, tmp_path):
    assert toy.train(config(tmp_path / 'gone.pth', tmp_path, store, epochs=2)).epoch == 2
    assert 'teacher not verified, because it is not available' in toy.log_text(tmp_path)


def test_images_without_augmentation_can_be_stored(ckpt, tmp_path):
    """Every view has the same images."""

    def unchanged(name, logits=None):
        cfg = config(ckpt, tmp_path / name, logits, epochs=2)
        cfg.train_dataloader.dataset.dataset.pipeline = [dict(type='PackInputs')]
        return cfg

    store_teacher(unchanged('live'), tmp_path / 'logits', VIEWS)
    live, stored = (
        toy.student(toy.train(unchanged(name, logits))).state_dict()
        for name, logits in dict(live=None, stored=tmp_path / 'logits').items()
    )
    for name in live:
        torch.testing.assert_close(stored[name], live[name], rtol=0, atol=5e-3)


def test_an_unknown_accuracy_is_reported(ckpt, tmp_path):
    store_teacher(config(ckpt, tmp_path), tmp_path / 'logits', VIEWS)
    header = tmp_path / 'logits/store.json'
    values = json.loads(header.read_text())
    header.write_text(json.dumps(dict(values, metrics={})))
    gone, options = tmp_path / 'gone.pth', dict(epochs=2)
    toy.train(config(gone, tmp_path / 'unknown', tmp_path / 'logits', **options))
    assert 'the accuracy of the teacher is not known' in toy.log_text(tmp_path / 'unknown')
    with pytest.raises(ValueError, match='min_top1 needs the accuracy of the teacher, which its'):
        toy.train(config(gone, tmp_path / 'bad', tmp_path / 'logits', min_top1=1, **options))
    # with the teacher, it is measured
    toy.train(config(ckpt, tmp_path / 'known', tmp_path / 'logits', min_top1=1, **options))
    found = [row for row in toy.logged(tmp_path / 'known') if 'teacher/accuracy/top1' in row]
    assert found[0]['teacher/accuracy/top1'] == values['metrics']['accuracy/top1']


def test_a_teacher_is_identified_by_the_weights_that_were_loaded(ckpt, tmp_path):
    """Its work dir may get newer ones during the run."""
    path = tmp_path / 'teacher/epoch_1.pth'
    path.parent.mkdir()
    shutil.copy(ckpt, path)
    changed(shutil.copy(ckpt, path.with_name('epoch_2.pth')))
    (path.parent / 'last_checkpoint').write_text('epoch_1.pth')
    cfg = config(path.parent, tmp_path / 'run')
    teacher = unwrap(toy.start(cfg).model).teacher
    before = teacher.fingerprint()
    (path.parent / 'last_checkpoint').write_text('epoch_2.pth')
    assert teacher.fingerprint() == before
    assert unwrap(toy.start(cfg).model).teacher.fingerprint() != before


def test_training_needs_no_code_of_the_teacher(ckpt, store, tmp_path):
    cfg = config(ckpt, tmp_path, store, epochs=2)
    cfg.model.teacher.backbone.type = 'mmpretrain.NotInstalled'
    toy.train(cfg)
    assert 'teacher not verified, because it is not available' in toy.log_text(tmp_path)


def test_a_bad_teacher_is_refused(ckpt, store, tmp_path):
    with pytest.raises(ValueError, match='below min_top1=100'):
        toy.train(config(ckpt, tmp_path, store, min_top1=100))
    assert TeacherLogits(store).header['metrics']['accuracy/top1'] < 100


def test_stock_preprocessor_is_refused(ckpt, store, tmp_path):
    stock = {'model.data_preprocessor.type': 'mmpretrain.ClsDataPreprocessor'}
    with pytest.raises(ValueError, match='BatchClsDataPreprocessor'):
        toy.start(config(ckpt, tmp_path, store, **stock))


@pytest.mark.parametrize('place', ['data_preprocessor.batch_augments', 'architecture.train_cfg'])
def test_batch_augmentation_is_refused(ckpt, store, tmp_path, place):
    mixup = {
        f'model.{place}': dict(augments=[dict(type='mmpretrain.Mixup', alpha=1.0)]),
        'model.data_preprocessor.num_classes': toy.NUM_CLASSES,
    }
    with pytest.raises(ValueError, match='without mixup .* train_cfg of the architecture'):
        toy.start(config(ckpt, tmp_path, store, **mixup))
