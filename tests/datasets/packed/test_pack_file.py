import multiprocessing
import os
import pickle
import time
from unittest import mock

import numpy as np
import pytest
import toy
from packed_data import pack_toy, tiny
from PIL import Image

import prkd_mm.datasets.packed.pack_file as packing
from prkd_mm.datasets import PackedImages


def files(folder):
    return [name for name in os.listdir(folder) if '.npy' in name]


def change(path):
    image = np.asarray(Image.open(path).convert('RGB'))
    path.unlink()  # the file is a hard link to the original
    Image.fromarray(255 - image).save(path, 'JPEG')


def test_the_file_is_a_plain_npy_file(tmp_path):
    packed = pack_toy(tmp_path)
    (name,) = files(tmp_path)
    assert packed.file == str(tmp_path / name)
    assert name == f'ToyImages-{packed.fingerprint}.npy'
    images = np.load(packed.file)
    assert images.shape == (toy.TRAIN_SIZE, 3, 8, 8)
    assert (images == packed.images).all()


def test_images_are_decoded_only_once(copy, decoded):
    one = tiny(copy)
    assert 50 <= decoded() <= 51
    two = tiny(copy)
    assert decoded() <= 51 and (one.images == two.images).all()


def test_each_subset_has_its_own_file(copy, decoded):
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


def test_the_file_does_not_add_a_class(copy):
    for _ in range(2):
        packed = PackedImages(dict(type='CustomDataset', data_root=str(copy / 'train')))
        assert len(packed) == 50
        assert packed.metainfo['classes'] == tuple(
            sorted(path.name for path in (copy / 'train').iterdir() if path.is_dir())
        )
        assert len(packed.metainfo['classes']) == 10
    assert len(files(copy / 'train')) == 1


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


def test_other_classes_and_pixels_have_another_file(tmp_path):
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


END = 128 + 32 * 192  # of the header and the pixels of the toy images


def flip_a_bit(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGE = dict(
    empty=lambda data: b'',
    magic=lambda data: data[:4],
    header=lambda data: data[:100],
    pixels=lambda data: data[:3000],
    notes=lambda data: data[:-1],
    without_notes=lambda data: data[:END],
    one_bit=lambda data: flip_a_bit(data, 3000),
    last_bit=lambda data: flip_a_bit(data, END - 1),
    other=lambda data: b'something else' * 500,
)


@pytest.mark.parametrize('name', DAMAGE)
def test_a_damaged_file_is_rebuilt(tmp_path, name, decoded):
    packed = pack_toy(tmp_path)
    with open(packed.file, 'rb') as file:
        intact = file.read()
    os.remove(packed.file)  # the mapped file must not change
    with open(packed.file, 'wb') as file:
        file.write(DAMAGE[name](intact))
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
    left.write_text('left by a killed run')
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
    with pytest.raises(OSError, match='choose another folder .*`cache`'):
        tiny(mini, tmp_path / 'file')


class TestReadOnlyFolder:
    """The kernel allows nobody, not even root, to create a file in /sys."""

    @pytest.fixture(autouse=True)
    def cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
        return tmp_path / 'prkd_mm/sys'

    def test_images_are_packed_into_the_cache_of_the_user_with_a_message(self, cache, decoded):
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

    def test_all_ranks_find_the_file_in_the_cache(self, cache, monkeypatch):
        file = pack_toy('/sys').file
        monkeypatch.setattr(packing, 'is_main_process', lambda: False)
        monkeypatch.setattr(packing, 'barrier', lambda: None)
        assert pack_toy('/sys').file == file

    def test_a_folder_that_can_be_written_is_preferred(self, cache, tmp_path):
        (tmp_path / 'data').mkdir()
        assert pack_toy(tmp_path / 'data').file.startswith(str(tmp_path / 'data'))
        assert not cache.parent.exists()

    def test_a_read_only_cache_folder_is_an_error(self, cache, tmp_path):
        with pytest.raises(OSError, match="cannot write into '/sys'.*`cache`"):
            PackedImages(dict(type='ToyImages', data_root=str(tmp_path)), cache='/sys')

    def test_no_writable_folder_is_an_error(self, monkeypatch):
        monkeypatch.setenv('XDG_CACHE_HOME', '/sys')
        with pytest.raises(OSError, match="cannot write into '/sys'.*`cache`"):
            pack_toy('/sys')


def test_nothing_is_printed_unless_images_are_decoded(tmp_path, capfd):
    pack_toy(tmp_path)
    assert 'Decoding' in capfd.readouterr().out
    pack_toy(tmp_path)
    PackedImages(dict(type='Digits'))
    assert capfd.readouterr() == ('', '')
