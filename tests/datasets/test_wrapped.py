"""The message for a data set whose files are not there."""

import pytest
from mmpretrain.datasets import CIFAR100
from mmpretrain.registry import DATASETS

import prkd_mm.datasets  # noqa: F401  registers the data sets
from prkd_mm.datasets.wrapped import unused_images


@pytest.mark.parametrize('wrapper', ['PackedImages', 'ImageViews'])
@pytest.mark.parametrize(
    'data_set, command',
    [
        (dict(type='CIFAR10', split='train', download=False), 'cifar10'),
        (dict(type='mmpretrain.CIFAR100', split='train', download=False), 'cifar100'),
        (dict(type=CIFAR100, split='test', download=False), 'cifar100'),
        (dict(type='TinyImageNet'), 'tinyimagenet'),
        (dict(type='Caltech256'), 'caltech256'),
    ],
)
def test_a_missing_data_set_names_the_command(wrapper, data_set, command, tmp_path):
    root = tmp_path / 'nothing'
    with pytest.raises(FileNotFoundError) as e:
        DATASETS.build(dict(type=wrapper, dataset=dict(data_set, data_root=str(root))))
    assert f'`python tools/prepare_data.py {command}`' in str(e.value)
    assert f"'{root}'" in str(e.value)


@pytest.mark.parametrize('wrapper', ['PackedImages', 'ImageViews'])
@pytest.mark.parametrize('kind', ['CustomDataset', 'ImageNet'])
def test_images_that_nothing_can_download_name_the_folder(wrapper, kind, tmp_path):
    root = tmp_path / 'nothing'
    with pytest.raises(FileNotFoundError) as e:
        DATASETS.build(dict(type=wrapper, dataset=dict(type=kind, data_root=str(root))))
    for words in kind, f"Put the images into '{root}'", 'set data_root':
        assert words in str(e.value)


def test_a_missing_prefix_is_named(tmp_path):
    photos = dict(type='CustomDataset', data_prefix=str(tmp_path / 'photoz'))
    with pytest.raises(FileNotFoundError, match="Set data_prefix, now '.*photoz', to the folder"):
        DATASETS.build(dict(type='ImageViews', dataset=photos))


@pytest.mark.parametrize('wrapped', [False, True])
def test_images_with_other_endings_are_counted(tmp_path, wrapped):
    for name in (
        'cat/1.jpg',
        'cat/2.webp',
        'cat/notes.txt',
        'dog/1.JPG',
        'dog/2.HEIC',
        'dog/3.heic',
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    photos = dict(type='CustomDataset', data_root=str(tmp_path), pipeline=[])
    dataset = DATASETS.build(dict(type='ImageViews', dataset=photos) if wrapped else photos)
    (note,) = unused_images(dataset)
    assert note.startswith(f"3 images in '{tmp_path}/' are not used (2 with .heic, 1 with .webp): ")
    every = DATASETS.build(dict(photos, extensions=['.jpg', '.heic', '.webp']))
    assert len(every) == 5 and unused_images(every) == []
