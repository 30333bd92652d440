import logging
from collections import Counter
from unittest import mock

import pytest
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS

from prkd_mm.datasets import Digits, PackedImages, held_out_split

DIGITS = dict(type='Digits', split='train', pipeline=[])


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')


def part(name, **kwargs):
    return DATASETS.build(dict(type='held_out_split', dataset=DIGITS, part=name, **kwargs))


def pixels(dataset):
    return [dataset.get_data_info(i)['img'].tobytes() for i in range(len(dataset))]


@pytest.mark.parametrize('every', [2, 5])
def test_parts_are_disjoint_and_complete_with_a_share_of_each_class(every):
    whole = Digits('train')
    rest, held_out = part('rest', every=every), part('held_out', every=every)
    assert Counter(pixels(rest) + pixels(held_out)) == Counter(pixels(whole))
    counts = Counter(whole.get_gt_labels().tolist())
    assert Counter(held_out.get_gt_labels().tolist()) == {
        label: n // every for label, n in counts.items()
    }
    assert held_out.metainfo == whole.metainfo
    assert pixels(part('rest', every=every)) == pixels(rest)


def test_packed_images_can_contain_it_with_another_pipeline():
    crop = [dict(type='RandomCrop', crop_size=8, padding=1), dict(type='PackInputs')]
    split = dict(type='held_out_split', part='held_out', dataset=dict(DIGITS, pipeline=crop))
    pack = dict(type='PackInputs')
    augmented = PackedImages(split)
    plain = PackedImages(split, pipeline=[pack])
    assert 'augment' in augmented.__getitems__([0])
    assert 'augment' not in plain.__getitems__([0])
    assert [x.tobytes() for x in plain.images] == pixels(part('held_out'))
    rest = PackedImages(dict(split, part='rest'), pipeline=[pack])
    assert plain.fingerprint != rest.fingerprint


def test_the_data_set_is_not_copied(monkeypatch):
    """MMEngine's copies share one memo, which mixes up transforms at reused addresses."""
    monkeypatch.setattr(BaseDataset, '_copy_without_annotation', None)
    assert len(part('rest')) + len(part('held_out')) == len(Digits('train'))


@pytest.mark.parametrize(
    'wrong, words',
    [
        (dict(part='test'), "part must be one of .*'test'"),
        (dict(part='rest', every=1), 'at least 2; got 1'),
        (dict(part='rest', every=2.5), 'whole number.*2.5'),
        (dict(part='held_out', every=1000), 'use a smaller `every` than 1000'),
    ],
)
def test_bad_arguments_are_errors(wrong, words):
    with pytest.raises(ValueError, match=words):
        held_out_split(DIGITS, **wrong)


@pytest.mark.parametrize(
    'every, number, names',
    [(129, 4, "'0', '2', '7', '8';"), (130, 7, "'0', '2', '4', '6', '7', ...;")],
)
def test_classes_without_a_held_out_image_are_named(every, number, names):
    print_log = mock.Mock()
    with mock.patch.dict(held_out_split.__globals__, print_log=print_log):
        held_out_split(DIGITS, 'rest', every=every)
        held_out_split(DIGITS, 'held_out', every=127)  # the smallest class has 127 images
        assert not print_log.called
        held_out_split(DIGITS, 'held_out', every=every)
    ((message,), options) = print_log.call_args
    assert f'{number} of 10 classes have fewer than {every} images' in message
    assert f'none of theirs is held out: {names}' in message
    assert options['level'] == logging.WARNING


def test_a_wrapper_is_an_error():
    with pytest.raises(TypeError, match='RepeatDataset wraps other data sets'):
        held_out_split(dict(type='RepeatDataset', dataset=DIGITS, times=2), 'rest')
