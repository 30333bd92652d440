import hashlib
import sys

import numpy as np
import pytest
from mmpretrain.registry import DATASETS
from sklearn.datasets import load_digits

from prkd_mm.datasets import Digits


def arrays(split):
    infos = [*map((data := Digits(split)).get_data_info, range(len(data)))]
    return (np.stack([i['img'] for i in infos]), np.array([i['gt_label'] for i in infos]))


@pytest.mark.parametrize(
    'split, total, digest',
    [
        ('train', 1287, '34c0f1b094d8437e12ad91636252e468'),
        ('test', 510, '2290f31ecd8900c3430ccf469df42f51'),
    ],
)
def test_the_split_is_fixed(split, total, digest):
    images, labels = arrays(split)
    assert images.shape == (total, 8, 8)
    assert images.dtype == np.uint8
    both = images.tobytes() + labels.astype(np.uint8).tobytes()
    assert hashlib.md5(both).hexdigest() == digest


def test_the_splits_are_disjoint_and_complete():
    (train, a), (test, b) = arrays('train'), arrays('test')
    data = load_digits()
    images = np.concatenate([train, test])
    assert (np.concatenate([a, b]) == data.target).all()
    # 0..16 is scaled to 0..255
    assert np.abs(images / (255 / 16) - data.images).max() < 0.04
    assert images.min() == 0 and images.max() == 255


def test_no_form_is_in_both_splits():
    # each form starts with 0..9 three times
    (_, train), (_, test) = arrays('train'), arrays('test')
    assert test[:30].tolist() == list(range(10)) * 3
    assert train[-20:].tolist() != list(range(10)) * 2


def test_both_splits_have_similar_proportions_of_the_classes():
    (_, train), (_, test) = arrays('train'), arrays('test')
    share = np.bincount(test) / (np.bincount(train) + np.bincount(test))
    assert share.min() > 0.26 and share.max() < 0.30


def test_it_is_built_by_name():
    data = DATASETS.build(dict(type='Digits', split='test', pipeline=[dict(type='PackInputs')]))
    assert data.CLASSES == tuple('0123456789')
    assert data[7]['inputs'].shape == (1, 8, 8)
    assert int(data[7]['data_samples'].gt_label) == 7
    assert 'Split: \ttest' in repr(data)


def test_num_train_moves_the_split():
    """The first five forms end at 646, where the sixth begins with 0..9 three times."""
    train, test = Digits('train', num_train=646), Digits('test', num_train=646)
    labels = [
        int(data.get_data_info(i)['gt_label']) for data in (train, test) for i in range(len(data))
    ]
    assert (len(train), len(test)) == (646, 1151)
    assert labels == load_digits().target.tolist()
    assert labels[646:676] == list(range(10)) * 3


@pytest.mark.parametrize('number', [0, -1, 1797])
def test_an_empty_part_is_an_error(number):
    with pytest.raises(ValueError, match=f'num_train from 1 to 1796, got {number}'):
        Digits(num_train=number)


def test_an_unknown_split_is_an_error():
    with pytest.raises(ValueError, match=r"'val'.*\['train', 'test'\]"):
        Digits('val')


def test_a_missing_scikit_learn_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn', None)
    with pytest.raises(ImportError, match='pip install scikit-learn'):
        Digits()
