import io
import shutil
import zipfile
from pathlib import PurePosixPath

import numpy as np
import pytest
from mmengine.dataset import default_collate
from mmpretrain.registry import DATASETS, TRANSFORMS
from PIL import Image

from prkd_mm.datasets import TinyImageNet

LOAD = [dict(type='LoadImageFromFile')]


@pytest.fixture(scope='module')
def official(mini_zip):
    """Wnids, names and {file: class} of the archive, read without our code."""
    with zipfile.ZipFile(mini_zip) as f:
        files = {PurePosixPath(n): f.read(n) for n in f.namelist()}
    texts = {p.name: b.decode() for p, b in files.items() if p.suffix == '.txt'}
    wnids = texts['wnids.txt'].split()
    words = dict(line.split('\t') for line in texts['words.txt'].splitlines())
    train = {p.name: p.parts[2] for p in files if p.suffix == '.JPEG' and p.parts[1] == 'train'}
    val = dict(line.split('\t')[:2] for line in texts['val_annotations.txt'].splitlines())
    jpegs = {p.name: b for p, b in files.items() if p.suffix == '.JPEG'}
    return dict(wnids=wnids, words=words, train=train, val=val, jpegs=jpegs)


def name(sample):
    return PurePosixPath(sample['img_path']).name


@pytest.mark.parametrize('split, total', [('train', 50), ('val', 20)])
def test_labels_agree_with_the_archive(mini, official, split, total):
    data = DATASETS.build(dict(type='TinyImageNet', data_root=str(mini), split=split))
    infos = [data.get_data_info(i) for i in range(len(data))]
    labels = {name(i): official['wnids'][i['gt_label']] for i in infos}
    assert len(infos) == total
    assert labels == official[split]
    assert data.metainfo['wnids'] == tuple(official['wnids'])
    assert data.metainfo['classes'] == tuple(official['words'][w] for w in official['wnids'])
    assert 'ice lolly, lolly, lollipop, popsicle' in data.CLASSES


def test_label_order_is_that_of_wnids_txt(copy, official):
    # the official file is not sorted; reverse this sorted one
    backwards = official['wnids'][::-1]
    (copy / 'wnids.txt').write_text('\n'.join(backwards) + '\n')
    for split in 'train', 'val':
        data = TinyImageNet(str(copy), split)
        assert data.metainfo['wnids'] == tuple(backwards)
        assert data.CLASSES[0] == official['words'][backwards[0]]
        for i in 0, len(data) // 2, len(data) - 1:
            info = data.get_data_info(i)
            wnid = backwards[info['gt_label']]
            assert official[split][name(info)] == wnid


@pytest.mark.parametrize('split, gray', [('train', 7), ('val', 4)])
def test_gray_images_get_three_channels(mini, official, split, gray):
    data = TinyImageNet(str(mini), split, pipeline=LOAD)
    seen = 0
    for sample in data:
        image = Image.open(io.BytesIO(official['jpegs'][name(sample)]))
        assert sample['img'].shape == (64, 64, 3)
        rgb = np.asarray(image.convert('RGB'), dtype=int)
        assert np.abs(sample['img'][..., ::-1] - rgb).max() <= 2  # decoders
        seen += image.mode == 'L'
    assert seen == gray


def test_a_batch_can_contain_gray_and_color_images(mini):
    pack = LOAD + [dict(type='PackInputs')]
    data = TinyImageNet(str(mini), pipeline=[TRANSFORMS.build(t) for t in pack])
    labels = data.get_gt_labels()
    gray = [
        i
        for i in range(len(data))
        if data.get_data_info(i)['img_path'].endswith('n02669723_7.JPEG')
    ]
    batch = default_collate([data[i] for i in gray + [0, 49]])
    assert batch['inputs'].shape == (3, 3, 64, 64)
    assert [int(s.gt_label) for s in batch['data_samples']] == [3, labels[0], labels[49]]


def test_samples_per_class_takes_the_first(mini, official):
    few = TinyImageNet(str(mini), samples_per_class=3)
    want = [
        n
        for w in official['wnids']
        for n in sorted(n for n, c in official['train'].items() if c == w)[:3]
    ]
    assert [name(few.get_data_info(i)) for i in range(len(few))] == want

    few = TinyImageNet(str(mini), 'val', samples_per_class=2)
    want = [
        n
        for i, (n, c) in enumerate(official['val'].items())
        if list(official['val'].values())[:i].count(c) < 2
    ]
    assert [name(few.get_data_info(i)) for i in range(len(few))] == want
    assert len(few) == 20

    assert len(TinyImageNet(str(mini), samples_per_class=1000)) == 50


def test_skipped_images_and_the_rest_are_the_complete_set(mini, official):
    first = TinyImageNet(str(mini), samples_per_class=2)
    rest = TinyImageNet(str(mini), 'train+val', skip_per_class=2)
    names = [{name(data.get_data_info(i)) for i in range(len(data))} for data in (first, rest)]
    assert not names[0] & names[1]
    assert names[0] | names[1] == {*official['train'], *official['val']}
    assert len(first) == 10 * 2 and len(rest) == 10 * 3 + 20
    for i in range(len(rest)):
        info = rest.get_data_info(i)
        wnid = {**official['train'], **official['val']}[name(info)]
        assert official['wnids'][info['gt_label']] == wnid


def test_first_class_chooses_other_classes_and_labels_them_from_0(mini, official):
    data = TinyImageNet(str(mini), first_class=3, num_classes=2, samples_per_class=4)
    assert data.metainfo['wnids'] == tuple(official['wnids'][3:5])
    labels = {name(i): i['gt_label'] for i in map(data.get_data_info, range(len(data)))}
    assert sorted(labels.values()) == [0] * 4 + [1] * 4
    assert all(official['train'][n] == official['wnids'][3 + k] for n, k in labels.items())


@pytest.mark.parametrize('split', ['train', 'val'])
def test_num_classes_takes_the_first(mini, official, split):
    few, whole = TinyImageNet(str(mini), split, num_classes=3), TinyImageNet(str(mini), split)
    assert few.metainfo['wnids'] == tuple(official['wnids'][:3])
    assert few.CLASSES == whole.CLASSES[:3]
    assert [few.get_data_info(i)['img_path'] for i in range(len(few))] == [
        info['img_path']
        for info in map(whole.get_data_info, range(len(whole)))
        if info['gt_label'] < 3
    ]
    assert set(few.get_gt_labels()) == {0, 1, 2}
    assert len(TinyImageNet(str(mini), split, num_classes=3, samples_per_class=2)) == 6
    assert TinyImageNet(str(mini), num_classes=10).CLASSES == whole.CLASSES


def test_lazy_init_reads_the_classes(mini):
    data = TinyImageNet(str(mini), lazy_init=True)
    assert not data._fully_initialized
    assert len(data.metainfo['classes']) == 10
    assert len(data) == 50


@pytest.mark.parametrize(
    'args, words',
    [
        (dict(split='test'), ["'test'", "['train', 'val', 'train+val']"]),
        (dict(samples_per_class=0), ['at least 1', '0']),
        (dict(samples_per_class=-1), ['at least 1', '-1']),
        (dict(samples_per_class=True), ['at least 1', 'True']),
        (dict(samples_per_class=2.0), ['at least 1', '2.0']),
        (dict(num_classes=0), ['num_classes', 'at least 1', '0']),
        (dict(num_classes=11), ['num_classes=11', 'leaves 10 of the 10 classes']),
        (dict(first_class=10), ['first_class=10', 'leaves 0 of the 10 classes']),
        (dict(first_class=-1), ['first_class', 'at least 0', '-1']),
        (dict(skip_per_class=1.5), ['skip_per_class', 'at least 0', '1.5']),
    ],
)
def test_wrong_arguments_are_errors(mini, args, words):
    with pytest.raises(ValueError) as e:
        TinyImageNet(str(mini), **args)
    assert all(w in str(e.value) for w in words)


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError) as e:
        TinyImageNet(str(tmp_path / 'nowhere'), lazy_init=True)
    for word in (
        str(tmp_path / 'nowhere'),
        'http://cs231n.stanford.edu/tiny-imagenet-200.zip',
        '90528d7ca1a48142e341f4ef8d21d0de',
        'python tools/prepare_data.py tinyimagenet',
    ):
        assert word in str(e.value)


def test_an_archive_as_data_root_is_an_error(mini_zip):
    with pytest.raises(ValueError, match=f"prepare_data.py tinyimagenet --source '{mini_zip}'"):
        TinyImageNet(str(mini_zip))


def edit(path, change):
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    'split, damage, words',
    [
        ('train', lambda d: (d / 'wnids.txt').unlink(), ['wnids.txt is missing']),
        ('val', lambda d: (d / 'words.txt').unlink(), ['words.txt is missing']),
        (
            'train',
            lambda d: edit(d / 'words.txt', lambda t: t.replace('n03255030\tdumbbell\n', '')),
            ['words.txt', 'n03255030'],
        ),
        (
            'train',
            lambda d: shutil.rmtree(d / 'train' / 'n04398044'),
            ['train/<class>/images', 'n04398044'],
        ),
        (
            'val',
            lambda d: (d / 'val' / 'val_annotations.txt').unlink(),
            ['val/val_annotations.txt is missing'],
        ),
        (
            'val',
            lambda d: (d / 'val' / 'images' / 'val_13.JPEG').unlink(),
            ['are missing', 'val_13.JPEG'],
        ),
        (
            'val',
            lambda d: edit(
                d / 'val' / 'val_annotations.txt',
                lambda t: t.replace('val_13.JPEG\tn03770439\t21\t33\t36\t43\n', ''),
            ),
            ['does not list', 'val_13.JPEG'],
        ),
        (
            'val',
            lambda d: edit(
                d / 'val' / 'val_annotations.txt',
                lambda t: t.replace('val_13.JPEG\tn03770439', 'val_13.JPEG\tn09999999'),
            ),
            ['not in wnids.txt', "val_13.JPEG ('n09999999')"],
        ),
        (
            'val',
            lambda d: edit(
                d / 'val' / 'val_annotations.txt',
                lambda t: t.replace('val_13.JPEG\tn03770439\t21\t33\t36\t43', 'val_13.JPEG'),
            ),
            ['not in wnids.txt', 'val_13.JPEG'],
        ),
    ],
)
def test_missing_parts_are_named(copy, split, damage, words):
    TinyImageNet(str(copy), split)
    damage(copy)
    with pytest.raises(FileNotFoundError) as e:
        TinyImageNet(str(copy), split)
    for word in words + [str(copy), 'tools/prepare_data.py']:
        assert word in str(e.value)
