"""A study is refused if the labels of its images mean other classes than those of its nets."""

import pytest
import torch
import toy

from prkd_mm.analysis import STUDIES
from prkd_mm.analysis.output import Report
from prkd_mm.analysis.runs import Run


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A run of two epochs, whose checkpoints contain its classes a, b, c and d."""
    folder = tmp_path_factory.mktemp('trained')
    cfg = toy.config(toy.distillation(toy.save_teacher(folder / 'teacher.pth')), folder / 'run')
    toy.train(cfg)
    return cfg


def study(name, cfg, folder, classes):
    """Run a study on images with other names of the classes; nothing must be computed."""
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.metainfo = dict(classes=classes)
    raw = dict(weights='latest') if name == 'compare' else {}  # there is no average
    options = STUDIES[name].options(samples=16, device='cpu', **raw)
    STUDIES[name].run([Run('PRKD', cfg)], Report(folder / 'out', name), options)


@pytest.mark.parametrize('name', STUDIES)
def test_images_with_another_order_of_classes_are_an_error(trained, tmp_path, name, capsys):
    words = "'b' is class 0 of the .* set, but class 1 of the training set of '.*epoch_[12].pth'"
    with pytest.raises(ValueError, match=words):
        study(name, trained.copy(), tmp_path, ('b', 'a', 'c', 'd'))
    assert '...' not in capsys.readouterr().out  # no progress
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name', ['strength', 'compare'])
def test_a_teacher_with_another_order_of_classes_is_an_error(trained, tmp_path, name):
    cfg = trained.copy()
    checkpoint = torch.load(cfg.model.teacher_ckpt)
    checkpoint['meta']['dataset_meta'] = dict(classes=['b', 'a', 'c', 'd'])
    cfg.model.teacher_ckpt = str(tmp_path / 'other.pth')
    torch.save(checkpoint, cfg.model.teacher_ckpt)
    with pytest.raises(ValueError, match="'a' is class 0 of the .* set, but class 1 of the teach"):
        study(name, cfg, tmp_path, ('a', 'b', 'c', 'd'))


def test_other_names_in_the_same_order_are_no_error(trained, tmp_path):
    study('spread', trained.copy(), tmp_path, ('a', 'bee', 'c', 'd'))
    assert (tmp_path / 'out/spread.json').exists()
