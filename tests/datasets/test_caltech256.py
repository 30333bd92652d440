"""Caltech-256's class and its preparation, on real images.

The official archive is not available here. These folders have its layout, its
stray entries and five instead of 257 classes, filled with images of Tiny
ImageNet in different sizes and modes.
"""

import itertools
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.dataset import default_collate
from mmpretrain.registry import DATASETS
from PIL import Image
from test_dataset_configs import build

from prkd_mm.datasets import Caltech256, caltech256

CLASSES = {
    '001.ak47': 20,
    '002.american-flag': 17,
    '003.backpack': 12,
    '004.baseball-bat': 10,
    '005.clutter': 14,
}
NAMES = tuple(c[4:] for c in CLASSES)
ODD = {
    '002_0001.jpg': ('RGB', (300, 180)),
    '002_0002.jpg': ('L', (90, 400)),
    '002_0003.jpg': ('CMYK', (31, 40)),
    '002_0004.jpg': ('L', (700, 520)),
}
LOAD = [dict(type='LoadImageFromFile')]


@pytest.fixture(scope='session')
def whole(mini, tmp_path_factory):
    """The folder of the data set, which tests must not change."""
    root = tmp_path_factory.mktemp('made') / '256_ObjectCategories'
    source = itertools.cycle(sorted(mini.rglob('*.JPEG')))
    for name, total in CLASSES.items():
        (root / name).mkdir(parents=True)
        for i, jpeg in enumerate(itertools.islice(source, total), 1):
            target = root / name / f'{name[:3]}_{i:04d}.jpg'
            if target.name in ODD:
                mode, size = ODD[target.name]
                Image.open(jpeg).convert(mode).resize(size).save(target)
            else:
                shutil.copy(jpeg, target)
    (root / '004.baseball-bat' / 'RENAME2').write_text('not an image')
    (root / '003.backpack' / 'greg').mkdir()
    shutil.copy(jpeg, root / '003.backpack' / 'greg' / '003_0099.jpg')
    return root


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of that folder, which tests may damage."""
    return Path(shutil.copytree(whole, tmp_path / whole.name))


@pytest.fixture(autouse=True)
def five_classes(monkeypatch):
    """Make the five classes here count as the official set."""
    monkeypatch.setattr(caltech256, 'NUM_CLASSES', 5)
    monkeypatch.setattr(caltech256, 'NUM_IMAGES', sum(CLASSES.values()))


def infos(data):
    return [data.get_data_info(i) for i in range(len(data))]


def files(data):
    return {Path(i['img_path']).name for i in infos(data)}


def test_labels_follow_the_numbers(whole):
    for split, total in ('train', 60), ('test', 13):
        data = DATASETS.build(dict(type='Caltech256', data_root=str(whole), split=split))
        assert len(data) == total and data.CLASSES == NAMES
        for info in infos(data):
            number = Path(info['img_path']).name[:3]
            assert info['gt_label'] == int(number) - 1
            assert Path(info['img_path']).is_file()
    assert 'seed 0' in repr(data)


def test_the_splits_are_disjoint_and_complete(whole):
    train, test = (Caltech256(str(whole), s) for s in ('train', 'test'))
    assert not files(train) & files(test)
    assert files(train) | files(test) == {
        f'{c[:3]}_{i + 1:04d}.jpg' for c, n in CLASSES.items() for i in range(n)
    }
    assert np.bincount(test.get_gt_labels()).tolist() == [4, 3, 2, 2, 2]


@pytest.mark.parametrize(
    'seed, want',
    [
        (0, [2, 5, 6, 9, 15, 20, 23, 24, 30, 41, 43, 49, 62, 65, 69, 82, 86, 89, 96]),
        (1, [1, 2, 5, 8, 11, 12, 26, 35, 36, 37, 49, 56, 57, 59, 60, 80, 85, 86, 96]),
    ],
)
def test_the_split_is_fixed(seed, want):
    """Changing these numbers would change the results of all users."""
    names = [f'001_{i:04d}.jpg' for i in range(1, 99)]
    test = caltech256.split_images(names, 'test', seed)
    assert test == [f'001_{i:04d}.jpg' for i in want]
    train = caltech256.split_images(names, 'train', seed)
    assert train == [n for n in names if n not in test]
    # independent of the order in which a file system lists them
    assert set(caltech256.split_images(names[::-1], 'test', seed)) == set(test)


def test_the_seed_changes_the_split(whole):
    zero, one = (Caltech256(str(whole), 'test', seed=s) for s in (0, 1))
    assert files(zero) != files(one)


def test_clutter_can_be_left_out(whole, copy):
    data = Caltech256(str(whole), with_clutter=False)
    assert data.CLASSES == NAMES[:4] and data.get_gt_labels().max() == 3
    shutil.rmtree(copy / '005.clutter')
    assert files(Caltech256(str(copy), with_clutter=False)) == files(data)
    with pytest.raises(FileNotFoundError, match='no folder for 005'):
        Caltech256(str(copy))


def test_classes_selects_classes_and_their_labels(whole):
    data = Caltech256(str(whole), classes=['clutter', 'ak47'])
    assert data.CLASSES == ('clutter', 'ak47')
    assert {(i['gt_label'], Path(i['img_path']).name[:3]) for i in infos(data)} == {
        (0, '005'),
        (1, '001'),
    }
    with pytest.raises(FileNotFoundError, match='no folder for zebra'):
        Caltech256(str(whole), classes=['ak47', 'zebra'])


def test_images_of_any_size_and_mode_are_loaded_with_three_channels(whole):
    seen = set()
    for split in 'train', 'test':
        data = Caltech256(str(whole), split, pipeline=LOAD)
        for info, sample in zip(infos(data), data):
            image = Image.open(info['img_path'])
            assert sample['img'].shape == (image.height, image.width, 3)
            rgb = np.asarray(image.convert('RGB'), dtype=int)
            assert np.abs(sample['img'][..., ::-1] - rgb).mean() < 2
            seen.add((image.mode, image.size))
    assert seen >= set(ODD.values())


def test_the_config_builds_all_splits(whole):
    cfg, sets, preprocessor = build('caltech256', data_root=str(whole))
    assert [len(d) for d in sets] == [60, 13, 13]
    assert cfg.data_preprocessor.num_classes == 257
    assert cfg.train_dataloader.batch_size == 64
    assert cfg.train_dataloader.dataset.type == 'ImageViews'
    assert cfg.data_preprocessor.type == 'mmpretrain.BatchClsDataPreprocessor'
    for data in sets:
        inputs = preprocessor(default_collate([*data]))['inputs']
        assert inputs.shape == (len(data), 3, 224, 224)
        assert inputs.mean().abs() < 0.6 and 0.7 < inputs.std() < 1.4


def test_wrong_arguments_are_errors(whole, tmp_path):
    with pytest.raises(ValueError, match=r"'val'.*\['train', 'test'\]"):
        Caltech256(str(whole), 'val')
    with pytest.raises(FileNotFoundError) as e:
        Caltech256(str(tmp_path / 'nowhere'), lazy_init=True)
    for word in (
        str(tmp_path / 'nowhere'),
        'prepare_data.py caltech256',
        'https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar',
        '67b4f42ca05d46448c6bb8ecd2220f6d',
    ):
        assert word in str(e.value)
    (tmp_path / 'set.tar').touch()
    with pytest.raises(ValueError, match='prepare_data.py caltech256 --sour'):
        Caltech256(str(tmp_path / 'set.tar'))


def rewrite(path, change):
    path.write_bytes(change(path.read_bytes()))


DAMAGE = [
    (lambda d: shutil.rmtree(d / '003.backpack'), '003', True),
    (
        lambda d: shutil.copytree(d / '004.baseball-bat', d / '006.more'),
        '6 instead of 5 classes',
        True,
    ),
    (lambda d: [p.unlink() for p in d.glob('004.*/*.jpg')], 'no *.jpg in 004.baseball-bat', True),
    (lambda d: (d / '002.american-flag/002_0007.jpg').unlink(), 'no 002_0007.jpg', False),
    (lambda d: (d / '005.clutter/005_0014.jpg').unlink(), '72 of 73 images', False),
    (
        lambda d: rewrite(d / '001.ak47/001_0005.jpg', lambda b: b[:-300]),
        'damaged images: 001.ak47/001_0005.jpg;',
        False,
    ),
    (
        lambda d: rewrite(d / '001.ak47/001_0005.jpg', lambda b: bytes(len(b))),
        'damaged images: 001.ak47/001_0005.jpg;',
        False,
    ),
    (
        lambda d: (d / '001.ak47/001_0005.jpg').write_bytes(b''),
        'damaged images: 001.ak47/001_0005.jpg;',
        False,
    ),
]


@pytest.mark.parametrize('damage, word, by_class', DAMAGE)
def test_missing_and_damaged_parts_are_named(copy, tool, tmp_path, damage, word, by_class):
    damage(copy)
    packed = shutil.make_archive(str(tmp_path / 'packed'), 'tar', tmp_path, copy.name)
    code, _, error = tool('--source', packed, dataset='caltech256')
    assert code == 1 and word in error
    assert not (tmp_path / 'data').exists()
    if by_class:  # without preparation, the class itself reports it
        with pytest.raises(FileNotFoundError) as e:
            Caltech256(str(copy))
        assert word in str(e.value) and 'prepare_data.py' in str(e.value)


@pytest.mark.parametrize('top', [True, False])
def test_an_archive_is_prepared(whole, tool, tmp_path, top):
    packed = shutil.make_archive(str(tmp_path / 'packed'), 'tar', whole.parent if top else whole)
    code, out, error = tool('--source', packed, dataset='caltech256')
    assert (code, error) == (0, '')
    assert 'Caltech-256 is complete' in out
    target = tmp_path / 'data' / '256_ObjectCategories'
    assert os.listdir(tmp_path / 'data') == [target.name]
    assert files(Caltech256(str(target))) == files(Caltech256(str(whole)))
    # a second run verifies the folder and does not change it
    before = target.stat().st_mtime_ns
    assert tool(dataset='caltech256')[0] == 0
    assert target.stat().st_mtime_ns == before
    rewrite(target / '001.ak47/001_0005.jpg', lambda b: b[:-300])
    code, _, error = tool(dataset='caltech256')
    assert code == 1 and '001_0005.jpg' in error and 'remove it' in error


def test_an_incomplete_set_needs_partial(whole, tool, tmp_path, monkeypatch):
    monkeypatch.undo()  # the official numbers
    code, _, error = tool('--source', whole, dataset='caltech256')
    assert code == 1 and '--partial' in error
    code, out, _ = tool('--source', whole, '--partial', dataset='caltech256')
    out = ' '.join(out.split())
    for lack in (
        '5 of 257 classes',
        '006, 007, 008, 009, 010 and 247 more',
        '73 of 30,607 images',
        'fewer than 80 per class: 001.ak47 has',
    ):
        assert code == 0 and lack in out
    target = str(tmp_path / 'data' / '256_ObjectCategories')
    with pytest.raises(FileNotFoundError, match='no folder for 006, 007'):
        Caltech256(target)
    assert len(Caltech256(target, classes=NAMES)) == 60


def test_a_truncated_archive_is_named(whole, tool, tmp_path):
    packed = Path(shutil.make_archive(str(tmp_path / 'packed'), 'tar', whole.parent))
    rewrite(packed, lambda b: b[: len(b) * 2 // 3 + 700])
    code, _, error = tool('--source', packed, '--partial', dataset='caltech256')
    assert code == 1 and f"'{packed}' is damaged, cut short" in error
    assert not (tmp_path / 'data').exists()
