import pytest
from mmpretrain.registry import DATASETS
from packed_data import assert_same_images, tiny

from prkd_mm.datasets import PackedImages

LOAD, CROP, FLIP, PACK = (
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=8),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
)


@pytest.mark.parametrize(
    'steps, augment',
    [
        ([], None),
        ([PACK], None),
        ([LOAD, PACK], None),
        ([LOAD, CROP, FLIP, PACK], ((8, 8), 0, 0.5)),
        ([dict(CROP, crop_size=(7, 9), padding=2)], ((7, 9), 2, 0)),
        ([FLIP, PACK], (None, 0, 0.5)),
    ],
)
def test_the_pipeline_determines_the_augmentation(steps, augment):
    packed = PackedImages(dict(type='ToyImages', pipeline=steps))
    batch = packed.__getitems__([0])
    assert tuple(batch.get('augment', {}).values()) == (augment or ())


@pytest.mark.parametrize(
    'steps, message',
    [
        ([FLIP, CROP, PACK], 'step RandomCrop.*in this order'),
        ([CROP, CROP], 'in this order'),
        ([PACK, LOAD], 'in this order'),
        ([LOAD, dict(type='CenterCrop', crop_size=8)], 'step CenterCrop.*cannot be applied'),
        ([dict(CROP, padding=(1, 2))], 'padding'),
        ([dict(CROP, pad_val=3)], 'pad_val=3'),
        ([dict(CROP, pad_if_needed=True)], 'pad_if_needed=True'),
        ([dict(FLIP, direction='vertical')], 'horizontal'),
        ([dict(FLIP, prob=[0.5, 0.2], direction=['horizontal', 'vertical'])], 'horizontal'),
        ([dict(CROP, crop_size=(8, 11), padding=1)], r'\(8, 11\).*\(10, 10\)'),
    ],
)
def test_pipelines_for_single_images_are_errors(steps, message):
    with pytest.raises(ValueError, match=message):
        PackedImages(dict(type='ToyImages', pipeline=steps))


def test_the_pipeline_loads_the_images(mini, tmp_path):
    gray = [dict(LOAD, color_type='grayscale'), PACK]
    packed = tiny(mini, tmp_path, 'val', pipeline=gray)
    assert_same_images(
        packed,
        DATASETS.build(dict(type='TinyImageNet', data_root=str(mini), split='val', pipeline=gray)),
    )
    assert packed.images.shape == (20, 1, 64, 64)
    assert tiny(mini, tmp_path, 'val').images.shape == (20, 3, 64, 64)


def test_images_are_resized_once(mini, tmp_path):
    smaller = [LOAD, dict(type='Resize', scale=(32, 24), interpolation='area'), PACK]
    packed = tiny(mini, tmp_path, 'val', pipeline=smaller)
    assert_same_images(
        packed,
        DATASETS.build(
            dict(type='TinyImageNet', data_root=str(mini), split='val', pipeline=smaller)
        ),
    )
    assert packed.images.shape == (20, 3, 24, 32)
    crop = dict(type='RandomCrop', crop_size=16)
    augmented = tiny(mini, tmp_path, 'val', pipeline=[*smaller[:2], crop, PACK])
    assert augmented.file == packed.file
    assert tiny(mini, tmp_path, 'val').file != packed.file
    smaller[1]['interpolation'] = 'nearest'
    assert tiny(mini, tmp_path, 'val', pipeline=smaller).file != packed.file
