"""The same label means the same class in the data sets, the teacher and the checkpoint."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import project
import pytest
import torch
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from prkd_mm.checks.class_checks import check_classes, compare_classes
from prkd_mm.config import load_config

TEACHER = """
custom_imports = dict(imports=['prkd_mm'], allow_failed_imports=False)
default_scope = 'mmpretrain'
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CustomDataset',
        data_root='photos/train',
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]),
    sampler=dict(type='DefaultSampler', shuffle=False))
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    dataset=dict(
        type='CustomDataset',
        data_root='photos/val',
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='Accuracy')
train_cfg, val_cfg, test_cfg = dict(by_epoch=True, max_epochs=1), dict(), dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
data_preprocessor = dict(num_classes=3)
model = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(type='ResNet6n2', depth=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=64))
"""
STUDENT = """
_base_ = 'teacher.py'
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='FrozenTeacherDistill',
    architecture=_base_.model,
    teacher=_base_.model,
    teacher_ckpt='teacher.pth',
    distiller=dict(
        type='ConfigurableDistiller',
        student_recorders=dict(logits=dict(type='ModuleOutputs', source='head.fc')),
        teacher_recorders=dict(logits=dict(type='ModuleOutputs', source='head.fc')),
        distill_losses=dict(loss_prkd=dict(type='PRKDLoss')),
        loss_forward_mappings=dict(loss_prkd=dict(
            preds_S=dict(from_student=True, recorder='logits'),
            preds_T=dict(from_student=False, recorder='logits')))))
"""


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Photos of three classes, configs of a teacher and a student, and the teacher's checkpoint."""
    monkeypatch.chdir(tmp_path)
    for part in ('train', 'val'):
        for name in ('cat', 'dog', 'owl'):
            folder = tmp_path / 'photos' / part / name
            folder.mkdir(parents=True)
            for i in range(2):
                pixels = np.random.RandomState(i).randint(0, 256, (8, 8, 3)).astype(np.uint8)
                cv2.imwrite(str(folder / f'{i}.png'), pixels)
    Path('teacher.py').write_text(TEACHER)
    Path('student.py').write_text(STUDENT)
    state = MODELS.build(load_config('teacher.py').model).state_dict()
    meta = dict(dataset_meta=dict(classes=['cat', 'dog', 'owl']))
    torch.save(dict(state_dict=state, meta=meta), 'teacher.pth')
    return tmp_path / 'photos'


def test_a_class_without_a_folder_in_the_validation_set(photos):
    shutil.rmtree(photos / 'val/dog')
    text = project.error_of('train', 'teacher.py')
    assert text.startswith(
        "error: 'owl' is class 1 of the validation set, but class 2 of the training set"
    )
    assert not Path('work_dirs').exists()


def test_a_single_class(photos):
    for path in photos.glob('train/[do]*'):
        shutil.rmtree(path)
    text = project.error_of('train', 'teacher.py')
    assert "the training set has a single class, 'cat', so there is nothing to learn" in text


def test_a_hidden_folder_is_named(photos):
    for part in ('train', 'val'):
        shutil.copytree(photos / part / 'dog', photos / part / '.checkpoints')
    text = project.error_of('train', 'teacher.py')
    assert 'has 4 classes, but num_classes of the head is 3' in text
    assert 'The classes: .checkpoints; cat; dog; owl' in text
    Path('hidden.py').write_text("_base_ = 'teacher.py'\nmodel = dict(head=dict(num_classes=4))\n")
    runner = Runner.from_cfg(load_config('hidden.py'))
    assert check_classes(runner) == ['hidden folders are classes, too: .checkpoints; remove them']


def test_a_teacher_with_another_order(photos):
    for part in ('train', 'val'):
        (photos / part / 'cat').rename(photos / part / 'z cat')
    text = project.error_of('train', 'student.py')
    assert "'dog' is class 1 of the teacher, but class 0 of the training set" in text
    assert '(cat; dog; owl) and (dog; owl; z cat)' in text


def test_a_checkpoint_with_another_order_is_not_tested(photos):
    (photos / 'val/cat').rename(photos / 'val/z cat')
    text = project.error_of('test', 'teacher.py', 'teacher.pth')
    assert "'dog' is class 0 of the test set, but class 1 of the training set" in text


def test_the_names_of_imagenet_in_two_libraries_are_accepted():
    from mmpretrain.datasets.categories import IMAGENET_CATEGORIES
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    theirs = [names.split(',')[0] for names in IMAGENET_CATEGORIES]
    for one, other in ((_IMAGENET_CATEGORIES, theirs), (theirs, _IMAGENET_CATEGORIES)):
        compare_classes('the training set', one, 'the teacher', other)
    with pytest.raises(ValueError, match='so their labels mean different classes'):
        compare_classes('the training set', theirs, 'the teacher', _IMAGENET_CATEGORIES[1:])


@pytest.mark.parametrize(
    'classes, others, missing',
    [
        (['cat', 'dog'], ['cat', 'dog'], None),
        (None, ['dog', 'cat'], None),
        (['cat', 'dog', 'owl'], ['cat', 'dog'], 'owl'),
        (['cat', 'dog'], ['cat', 'hound'], 'dog'),
        (['crane', 'ship', 'crane'], ['crane', 'ship', 'crane'], None),  # as in ImageNet
    ],
)
def test_other_differences_are_allowed(classes, others, missing):
    notes = compare_classes('the training set', classes, 'the teacher', others)
    expected = f'the teacher has no class with the name {missing}, as the training set has'
    assert notes == ([expected] if missing else [])
