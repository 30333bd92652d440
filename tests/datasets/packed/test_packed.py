import multiprocessing
import os
import pickle
import time
from unittest import mock

import numpy as np
import pytest
import torch
import toy
from mmengine.dataset import RepeatDataset, default_collate, pseudo_collate
from mmpretrain.models.utils import ClsDataPreprocessor
from mmpretrain.registry import DATASETS
from PIL import Image
from torch.utils.data import DataLoader

import prkd_mm.datasets.packed.pack_file as packing
from prkd_mm.datasets import Digits, PackedImages
from prkd_mm.datasets.packed.packed_images import whole_batch


def tiny(folder, cache=None, split='train', **kwargs):
    return PackedImages(
        dict(type='TinyImageNet', data_root=str(folder), split=split, **kwargs),
        cache=cache and str(cache),
    )


def pack_toy(folder, **kwargs):
    return PackedImages(dict(type='ToyImages', data_root=str(folder), **kwargs))


def files(folder):
    return [name for name in os.listdir(folder) if '.npy' in name]


@pytest.fixture
def decoded():
    """Function that returns the number of decoded images."""
    with mock.patch.object(
        packing.Originals, 'image', autospec=True, side_effect=packing.Originals.image
    ) as image:
        yield lambda: image.call_count


def same(packed, stock):
    assert len(packed) == len(stock) > 0
    assert packed.metainfo == stock.metainfo
    assert (packed.labels.numpy() == stock.get_gt_labels()).all()
    for i in range(len(stock)):
        image, sample = stock[i]['inputs'], packed[i]
        assert torch.equal(sample['inputs'], image)
        assert (packed.images[i] == image.numpy()).all()
        assert sample['data_samples'].sample_idx == i
        assert torch.equal(sample['data_samples'].gt_label, stock[i]['data_samples'].gt_label)


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
        same(packed, stock)
        paths = [stock.get_data_info(i)['img_path'] for i in range(len(stock))]
        # gray files have three equal channels
        gray = [Image.open(path).mode == 'L' for path in paths]
        assert any(gray)
        assert not np.ptp(packed.images[gray], axis=1).any()
    assert len(os.listdir(tmp_path)) == 2


def test_a_data_set_without_a_folder_is_packed_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    packed = PackedImages(dict(type='Digits', split='test'))
    same(packed, Digits('test', pipeline=[dict(type='PackInputs')]))
    assert packed.images.shape == (510, 1, 8, 8)
    assert not packed.file
    assert os.listdir(tmp_path) == []


def test_the_file_is_plain_npy(tmp_path):
    packed = pack_toy(tmp_path)
    (name,) = files(tmp_path)
    assert packed.file == str(tmp_path / name)
    assert name == f'ToyImages-{packed.fingerprint}.npy'
    images = np.load(packed.file)
    assert images.shape == (toy.TRAIN_SIZE, 3, 8, 8)
    assert (images == packed.images).all()


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


def test_images_are_decoded_only_once(copy, decoded):
    one = tiny(copy)
    assert 50 <= decoded() <= 51
    two = tiny(copy)
    assert decoded() <= 51 and (one.images == two.images).all()


def test_subsets_have_files_of_their_own(copy, decoded):
    whole = tiny(copy)
    few = tiny(copy, samples_per_class=2)
    some = tiny(copy, indices=[3, 49])
    assert [len(few), len(some)] == [20, 2]
    assert (few.images[2:4] == whole.images[5:7]).all()
    assert (some.images == whole.images[[3, 49]]).all()
    assert len(files(copy)) == 3
    count = decoded()
    for kwargs in dict(), dict(samples_per_class=2), dict(indices=[3, 49]):
        tiny(copy, **kwargs)
    assert decoded() == count


def test_the_file_is_not_taken_for_a_class(copy):
    for _ in range(2):
        packed = PackedImages(dict(type='CustomDataset', data_root=str(copy / 'train')))
        assert len(packed) == 50
        assert packed.metainfo['classes'] == tuple(
            sorted(path.name for path in (copy / 'train').iterdir() if path.is_dir())
        )
        assert len(packed.metainfo['classes']) == 10
    assert len(files(copy / 'train')) == 1


def change(path):
    image = np.asarray(Image.open(path).convert('RGB'))
    path.unlink()  # the file is a hard link to the original
    Image.fromarray(255 - image).save(path, 'JPEG')


def test_a_changed_image_rebuilds_the_file(copy, decoded):
    packed = tiny(copy)
    count = decoded()
    path = sorted((copy / 'train').rglob('*.JPEG'))[7]
    change(path)
    again = tiny(copy)
    assert decoded() >= count + 50
    # the old file is replaced; processes that have mapped it keep the old content
    assert again.file == packed.file
    assert files(copy) == [os.path.basename(packed.file)]
    differ = np.flatnonzero((again.images != packed.images).any((1, 2, 3)))
    assert len(differ) == 1
    read = packing.LoadImageFromFile()(dict(img_path=str(path)))['img']
    assert (again.images[differ[0]] == read.transpose(2, 0, 1)).all()


def test_a_changed_modification_time_rebuilds_the_file(copy, decoded):
    tiny(copy)
    count = decoded()
    path = next((copy / 'train').rglob('*.JPEG'))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    tiny(copy)
    assert decoded() >= count + 50


def test_other_classes_and_pixels_have_files_of_their_own(tmp_path):
    pack_toy(tmp_path)
    pack_toy(tmp_path, classes=list('efgh'))
    pack_toy(tmp_path, seed=1)
    assert len(files(tmp_path)) == 3


def test_a_moved_folder_is_not_packed_again(copy, decoded, monkeypatch):
    tiny(copy)
    count = decoded()
    copy.rename(copy.parent / 'elsewhere')
    tiny(copy.parent / 'elsewhere')
    monkeypatch.chdir(copy.parent)
    tiny('elsewhere')
    assert decoded() == count


def damage(name):
    def cut(data, size=None):
        return data[:size]

    def flip(data, at):
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return dict(
        empty=lambda data: cut(data, 0),
        magic=lambda data: cut(data, 4),
        header=lambda data: cut(data, 100),
        pixels=lambda data: cut(data, 3000),
        notes=lambda data: cut(data, -1),
        without_notes=lambda data: cut(data, 128 + 32 * 192),
        one_bit=lambda data: flip(data, 3000),
        last_bit=lambda data: flip(data, 128 + 32 * 192 - 1),
        other=lambda data: b'something else' * 500,
    )[name]


@pytest.mark.parametrize(
    'name',
    [
        'empty',
        'magic',
        'header',
        'pixels',
        'notes',
        'without_notes',
        'one_bit',
        'last_bit',
        'other',
    ],
)
def test_a_damaged_file_is_rebuilt(tmp_path, name, decoded):
    packed = pack_toy(tmp_path)
    with open(packed.file, 'rb') as file:
        intact = file.read()
    os.remove(packed.file)  # the mapped file must not change
    with open(packed.file, 'wb') as file:
        file.write(damage(name)(intact))
    count = decoded()
    with mock.patch.object(packing, 'print_log') as log:
        again = pack_toy(tmp_path)
    assert 'is damaged' in log.call_args.args[0]
    assert decoded() > count
    assert (again.images == packed.images).all()
    with open(packed.file, 'rb') as file:
        assert file.read() == intact


def test_damage_in_header_or_trailer_is_detected(tmp_path):
    packed = pack_toy(tmp_path)
    originals = packing.Originals(toy.ToyImages(data_root=str(tmp_path)))
    with open(packed.file, 'rb') as file:
        intact = file.read()
    end = 128 + packed.images.nbytes
    path = str(tmp_path / 'damaged.npy')
    for at in [*range(128), *range(end, len(intact))]:
        data = bytearray(intact)
        data[at] ^= 16
        with open(path, 'wb') as file:
            file.write(data)
        if packing._fault(originals, path) is None:
            # only some spaces do not matter
            assert intact[at : at + 1] == b' '
            assert (np.load(path) == packed.images).all()


def test_an_interrupted_run_leaves_no_file(tmp_path):
    with mock.patch.object(packing.zlib, 'crc32', side_effect=KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            pack_toy(tmp_path)
    assert files(tmp_path) == []
    left = tmp_path / (f'.{os.path.basename(pack_toy(tmp_path).file)}.0.partial')
    left.write_text('of a run that was killed')
    for age, there in (3000, True), (4000, False):
        os.utime(left, (0, time.time() - age))
        os.remove(pack_toy(tmp_path).file)
        pack_toy(tmp_path)
        assert left.exists() == there


def pack_at_once(folder, ready, results):
    ready.wait()
    results.put(pack_toy(folder, size=3000).images.sum())


def test_two_processes_can_pack_at_once(tmp_path):
    context = multiprocessing.get_context('fork')
    ready, results = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=pack_at_once, args=(tmp_path, ready, results)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    sums = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    (name,) = files(tmp_path)
    assert {np.load(tmp_path / name).sum()} == set(sums)


def test_other_ranks_wait_for_the_first(tmp_path, monkeypatch, decoded):

    def rank_0_is_done():
        assert not os.listdir(tmp_path)
        with (
            mock.patch.object(packing, 'is_main_process', lambda: True),
            mock.patch.object(packing, 'barrier'),
        ):
            pack_toy(tmp_path)
        seen.append(decoded())

    seen = []
    monkeypatch.setattr(packing, 'is_main_process', lambda: False)
    monkeypatch.setattr(packing, 'barrier', rank_0_is_done)
    packed = pack_toy(tmp_path)
    assert len(packed.images) == 32 and seen == [decoded()]


def test_images_of_different_sizes_are_an_error(copy):
    path = sorted((copy / 'train').rglob('*.JPEG'))[7]
    path.unlink()
    Image.new('RGB', (64, 63)).save(path, 'JPEG')
    with pytest.raises(
        ValueError,
        match=r'(?s)one size.*\.JPEG has \(3, 64, '
        r'64\) and .*\.JPEG has \(3, 63, 64\).*pipeline',
    ) as e:
        tiny(copy)
    assert str(path) in str(e.value)
    assert files(copy) == []


def test_a_folder_without_write_access_is_an_error(mini, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='name another folder .*`cache`'):
        tiny(mini, tmp_path / 'file')


class TestReadOnlyFolder:
    """The kernel allows nobody, not even root, to create a file in /sys."""

    @pytest.fixture(autouse=True)
    def cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
        return tmp_path / 'prkd_mm/sys'

    def test_packs_into_the_cache_of_the_user_and_says_so(self, cache, decoded):
        with mock.patch.object(packing, 'print_log') as log:
            packed = pack_toy('/sys')
            count = decoded()
            again = pack_toy('/sys')
        assert decoded() == count > 0
        assert packed.file == again.file == str(cache / f'ToyImages-{packed.fingerprint}.npy')
        assert (np.load(packed.file) == PackedImages(dict(type='ToyImages')).images).all()
        assert (pickle.loads(pickle.dumps(packed)).images == packed.images).all()
        messages = [call.args[0] for call in log.call_args_list]
        assert len(messages) == 2
        assert "'/sys' is read-only" in messages[0] and f"'{cache}'" in messages[0]
        assert packed.file in messages[1]

    def test_all_ranks_find_that_file(self, cache, monkeypatch):
        file = pack_toy('/sys').file
        monkeypatch.setattr(packing, 'is_main_process', lambda: False)
        monkeypatch.setattr(packing, 'barrier', lambda: None)
        assert pack_toy('/sys').file == file

    def test_a_folder_that_can_be_written_is_preferred(self, cache, tmp_path):
        (tmp_path / 'data').mkdir()
        assert pack_toy(tmp_path / 'data').file.startswith(str(tmp_path / 'data'))
        assert not cache.parent.exists()

    def test_a_cache_that_is_named_is_not_replaced(self, cache, tmp_path):
        with pytest.raises(OSError, match="cannot write into '/sys'.*`cache`"):
            PackedImages(dict(type='ToyImages', data_root=str(tmp_path)), cache='/sys')

    def test_no_folder_at_all(self, monkeypatch):
        monkeypatch.setenv('XDG_CACHE_HOME', '/sys')
        with pytest.raises(OSError, match="cannot write into '/sys'.*`cache`"):
            pack_toy('/sys')


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
    same(
        packed,
        DATASETS.build(dict(type='TinyImageNet', data_root=str(mini), split='val', pipeline=gray)),
    )
    assert packed.images.shape == (20, 1, 64, 64)
    assert tiny(mini, tmp_path, 'val').images.shape == (20, 3, 64, 64)


def test_images_are_resized_once(mini, tmp_path):
    smaller = [LOAD, dict(type='Resize', scale=(32, 24), interpolation='area'), PACK]
    packed = tiny(mini, tmp_path, 'val', pipeline=smaller)
    same(
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


def test_nothing_is_printed_unless_images_are_decoded(tmp_path, capfd):
    pack_toy(tmp_path)
    assert 'Decoding' in capfd.readouterr().out
    pack_toy(tmp_path)
    PackedImages(dict(type='Digits'))
    assert capfd.readouterr() == ('', '')
