import os
import pickle

import numpy as np
import pytest
import torch
import toy
from mmengine.dataset import RepeatDataset, default_collate, pseudo_collate
from mmpretrain.models.utils import ClsDataPreprocessor
from mmpretrain.registry import DATASETS
from packed_data import assert_same_images, pack_toy, tiny
from PIL import Image
from torch.utils.data import DataLoader

from prkd_mm.datasets import Digits, PackedImages
from prkd_mm.datasets.packed.packed_images import whole_batch


def test_images_and_labels_are_those_of_the_stock_pipeline(mini, tmp_path):
    for split in ('train', 'val'):
        stock = DATASETS.build(
            dict(
                type='TinyImageNet',
                data_root=str(mini),
                split=split,
                pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
            )
        )
        packed = tiny(mini, tmp_path, split)
        assert_same_images(packed, stock)
        paths = [stock.get_data_info(i)['img_path'] for i in range(len(stock))]
        # gray files have three equal channels
        gray = [Image.open(path).mode == 'L' for path in paths]
        assert any(gray)
        assert not np.ptp(packed.images[gray], axis=1).any()
    assert len(os.listdir(tmp_path)) == 2


def test_a_data_set_without_a_folder_is_packed_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    packed = PackedImages(dict(type='Digits', split='test'))
    assert_same_images(packed, Digits('test', pipeline=[dict(type='PackInputs')]))
    assert packed.images.shape == (510, 1, 8, 8)
    assert not packed.file
    assert os.listdir(tmp_path) == []


def test_batches_are_copies_of_the_images(tmp_path):
    packed = pack_toy(tmp_path)
    indices = [5, 0, 31, 5]
    batch = packed.__getitems__(indices)
    assert sorted(batch) == ['data_samples', 'inputs']
    assert batch['inputs'].dtype == torch.uint8
    assert torch.equal(batch['inputs'], torch.stack([packed[i]['inputs'] for i in indices]))
    samples = batch['data_samples']
    assert samples['sample_idx'].tolist() == indices
    assert samples['gt_label'].tolist() == [1, 0, 3, 1]
    # changes reach neither the next batch nor the file
    batch['inputs'].zero_()
    packed[0]['inputs'].zero_()
    assert packed.__getitems__([0])['inputs'].any()
    packed.images[:] = 0
    assert np.load(packed.file).any()


def test_single_images_can_be_fetched(tmp_path):
    packed = pack_toy(tmp_path)
    assert torch.equal(packed[-1]['inputs'], packed[31]['inputs'])
    assert packed[-1]['data_samples'].sample_idx == 31
    with pytest.raises(IndexError):
        packed[32]


@pytest.mark.parametrize('num_workers', [0, 2])
def test_a_data_loader_fetches_whole_batches(tmp_path, num_workers):
    packed = pack_toy(tmp_path, pipeline=[dict(type='RandomCrop', crop_size=8, padding=1)])
    loader = DataLoader(packed, 10, num_workers=num_workers, collate_fn=whole_batch)
    batches = list(loader)
    assert [len(batch['inputs']) for batch in batches] == [10, 10, 10, 2]
    images = torch.cat([batch['inputs'] for batch in batches]).numpy()
    assert (images == packed.images).all()
    assert batches[3]['data_samples']['sample_idx'].tolist() == [30, 31]
    assert batches[3]['augment'] == dict(size=(8, 8), padding=1, flip_prob=0)


def test_workers_receive_the_file_name_not_the_images(tmp_path):
    packed = pack_toy(tmp_path, size=1000)
    pickled = pickle.dumps(packed)
    assert len(pickled) < packed.images.nbytes / 10
    assert (pickle.loads(pickled).images == packed.images).all()
    assert packed.images is not None
    memory = PackedImages(dict(type='ToyImages'))
    copy = pickle.loads(pickle.dumps(memory))
    assert (copy.images == memory.images).all()


@DATASETS.register_module()
class Strange(toy.ToyImages):
    def __init__(self, strange, **kwargs):
        self.strange = strange
        super().__init__(**kwargs)

    def load_data_list(self):
        infos = super().load_data_list()
        infos[9].update(self.strange)
        return infos


@pytest.mark.parametrize(
    'strange, message',
    [
        (dict(gt_label=[1, 2]), 'one label'),
        (dict(gt_label=None), 'one label'),
        (dict(img=np.zeros((8, 8, 3), np.float32)), 'image 9 is float32'),
        (dict(img=np.zeros((8, 8), np.uint8)), r'image 9 has \(1, 8, 8\)'),
    ],
)
def test_data_that_cannot_be_packed_is_an_error(strange, message):
    with pytest.raises(ValueError, match=message):
        PackedImages(dict(type='Strange', strange=strange))


def test_a_wrapper_is_an_error():
    with pytest.raises(TypeError, match='RepeatDataset wraps other data sets'):
        PackedImages(RepeatDataset(toy.ToyImages(), times=2))


def test_an_empty_data_set_is_an_error():
    with pytest.raises(ValueError, match='must have images'):
        PackedImages(dict(type='ToyImages', size=0))


def test_a_built_data_set_is_accepted():
    packed = PackedImages(toy.ToyImages())
    assert (packed.images == PackedImages(dict(type='ToyImages')).images).all()


@pytest.mark.parametrize('collate', [default_collate, pseudo_collate])
def test_other_collate_functions_raise_an_error(collate):
    batch = PackedImages(dict(type='ToyImages')).__getitems__([0, 1])
    with pytest.raises(TypeError, match="collate_fn=dict.type='whole_batch'"):
        collate(batch)


def test_other_preprocessors_raise_an_error():
    batch = PackedImages(dict(type='ToyImages')).__getitems__([0, 1])
    with pytest.raises(TypeError, match='BatchClsDataPreprocessor'):
        ClsDataPreprocessor()(batch, True)


def test_the_collate_function_collates_single_samples():
    items = [PackedImages(dict(type='ToyImages'))[i] for i in range(3)]
    batch = whole_batch(items)
    assert batch['inputs'].shape == (3, 3, 8, 8)
    assert [int(s.gt_label) for s in batch['data_samples']] == [0, 1, 2]
