"""A store of another teacher, net, size or state is refused before it is used."""

import pytest
import torch
import toy
from filling import VIEWS, config, filling

from prkd_mm.teachers import StoredTeacher
from prkd_mm.teachers.fill_store import store_teacher
from prkd_mm.teachers.filling_teacher import prepare_store
from prkd_mm.teachers.logit_store import StoreMismatch
from prkd_mm.teachers.mean_teacher import MEANS

pytestmark = pytest.mark.usefixtures('four_chunks')


@pytest.mark.parametrize('topk', [None, 2])
@pytest.mark.parametrize('epochs', [2, 4], ids=['unfinished', 'complete'])
def test_logits_of_a_net_with_other_settings_are_refused(ckpt, tmp_path, epochs, topk):
    """Its weights are the same, so that their hash does not tell."""
    logits = dict(filling(tmp_path / 'logits', topk=topk), views=3)
    cfg = config(ckpt, tmp_path / 'run', logits, epochs=epochs)
    cfg.model.teacher.backbone.stride = 2
    toy.train(cfg)
    corrected = config(ckpt, tmp_path / 'corrected', logits, epochs=2)
    with pytest.raises(StoreMismatch, match='does not compute the logits that are stored .* they'):
        toy.train(corrected)
    with pytest.raises(StoreMismatch, match='does not compute the logits'):
        store_teacher(corrected, tmp_path / 'logits', 3, topk)


def test_the_accuracy_on_another_validation_set_is_measured_again(ckpt, tmp_path):
    def top1(name, **changes):
        cfg = config(ckpt, tmp_path / name, filling(tmp_path / 'logits'), epochs=2)
        cfg.merge_from_dict(changes)
        toy.train(cfg)
        return next(
            row['teacher/accuracy/top1']
            for row in toy.logged(tmp_path / name)
            if 'teacher/accuracy/top1' in row
        )

    few = top1('few', **{'val_dataloader.dataset.dataset.size': 8})
    assert top1('all') == top1('again') != few
    assert 'when its logits were stored' in toy.log_text(tmp_path / 'again')
    assert 'when its logits were stored' not in toy.log_text(tmp_path / 'all')
    assert top1('few again', **{'val_dataloader.dataset.dataset.size': 8}) == few


def test_damage_in_an_unfinished_store_is_found_before_it_is_completed(ckpt, tmp_path):
    logits = dict(filling(tmp_path / 'logits'), views=3)
    cfg = config(ckpt, tmp_path / 'run', logits, epochs=2)
    toy.train(cfg)
    with open(tmp_path / 'logits/logits.npy', 'r+b') as file:
        file.seek(200)
        file.write(b'damaged')
    for complete in (toy.train, lambda cfg: store_teacher(cfg, tmp_path / 'logits', 3)):
        with pytest.raises(ValueError, match='are damaged .view 0, images from 8 on'):
            complete(cfg)


def test_too_many_logits_are_an_error_before_their_size_is_logged(ckpt, tmp_path):
    with pytest.raises(ValueError, match='topk must be in 1..3, .* got 4'):
        toy.train(config(ckpt, tmp_path / 'run', filling(tmp_path / 'logits', topk=4)))
    assert 'Logits of' not in toy.log_text(tmp_path / 'run')


def save_script(path, seed):
    """Write a TorchScript file, which does not declare its number of classes."""
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, toy.NUM_CLASSES))
    torch.jit.script(net).save(str(path))
    return str(path)


def two_teachers(kind, ckpt, folder):
    """Settings of two models that differ in their teacher."""
    if kind == 'file':
        paths = [save_script(folder / f'{i}.pt', i) for i in range(2)]
        return [dict(teacher=path, teacher_ckpt=None) for path in paths]
    other = toy.save_teacher(folder / 'other.pth')
    state = torch.load(other)
    state['state_dict']['head.fc.bias'] += 1
    torch.save(state, other)
    if kind == 'checkpoints':
        return [dict(teacher_ckpt=[ckpt, path]) for path in (ckpt, other)]
    return [dict(teacher_ckpt=[ckpt, other], teacher_mean=dict(of=of)) for of in MEANS]


@pytest.mark.parametrize('kind', ['file', 'checkpoints', 'mean'])
def test_a_complete_store_is_used_for_its_teacher_only(ckpt, tmp_path, kind):
    one, other = two_teachers(kind, ckpt, tmp_path)
    cfg = config(ckpt, tmp_path / 'run', None)
    cfg.model.update(one)
    store_teacher(cfg, tmp_path / 'logits', VIEWS)
    for logits in (filling(tmp_path / 'logits'), str(tmp_path / 'logits')):
        cfg = config(ckpt, tmp_path / 'run', logits)
        cfg.model.update(one)
        assert isinstance(toy.build(cfg.model).teacher, StoredTeacher)
        cfg.model.update(other)
        with pytest.raises(StoreMismatch, match='teacher is .* rename that folder'):
            toy.build(cfg.model)
    folders = set()
    for teacher in (one, other):
        cfg = config(ckpt, tmp_path / 'run', None)
        cfg.model.update(teacher)
        prepare_store(cfg, VIEWS)
        folders.add(cfg.model.teacher_logits['folder'])
        del cfg.model.teacher_logits['folder']
        assert str(toy.build(cfg.model).teacher.folder) in folders
    assert len(folders) == 2


def test_a_store_of_another_number_of_views_is_refused(ckpt, reference, tmp_path):
    folder, _ = reference
    logits = dict(filling(folder / 'logits'), views=3)
    with pytest.raises(ValueError, match='views is 2, expected 3'):
        toy.start(config(ckpt, tmp_path, logits))
