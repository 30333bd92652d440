"""Archives that would fill the disk, and a disk that is full."""

import dataclasses
import io
import os
import shutil
import tarfile
import zipfile
from collections import namedtuple

import pytest

from prkd_mm.datasets.prepare import fetch
from prkd_mm.datasets.prepare.source import CIFAR_100, SOURCES, TINY_IMAGENET
from prkd_mm.datasets.prepare.unpack import unpack

Usage = namedtuple('Usage', 'total used free')


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / 'target'
    folder.mkdir()
    return folder


@pytest.fixture
def full_disk(monkeypatch):
    """A disk with 2 MB of free space."""
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: Usage(10**12, 10**12, 2 * 10**6))


def write_tar(path, *members, mode='w'):
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return str(path)


def write_zip(path, *members):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return str(path)


def refuse(archive, target, words, source=TINY_IMAGENET, error=ValueError):
    with pytest.raises(error, match=words):
        unpack(archive, str(target), source)
    assert os.listdir(target) == []


BOMB = [('wnids.txt', b'n01443537\n'), ('zeros', bytes(30_000_000))]


def test_a_zip_bomb_is_refused_before_a_file_is_written(target, tmp_path):
    refuse(write_zip(tmp_path / 'bomb.zip', *BOMB), target, r'bomb\.zip.*more than 20 times')


@pytest.mark.parametrize('compression', ['gz', 'bz2', 'xz'])
def test_a_tar_bomb_is_refused_before_a_file_is_written(target, tmp_path, compression):
    archive = write_tar(tmp_path / 'bomb', *BOMB, mode=f'w:{compression}')
    refuse(archive, target, 'more than 20 times')


def test_a_tar_that_declares_a_size_far_above_the_official_one_is_refused(target, tmp_path):
    info = tarfile.TarInfo('train')
    info.size = 10**12
    path = tmp_path / 'huge.tar'
    path.write_bytes(info.tobuf() + bytes(1024))
    refuse(str(path), target, r'1 files of 1,000,000 MB, but Tiny ImageNet has about')


def test_many_more_files_than_the_official_set_has_are_refused(target, tmp_path):
    # CIFAR-100 has a handful of files; names of 100 take the space of an honest archive
    members = [(f'cifar-100-python/{i}', os.urandom(100)) for i in range(100)]
    for archive in write_zip(tmp_path / 'a', *members), write_tar(tmp_path / 'b', *members):
        refuse(archive, target, 'at least 31 files.*CIFAR-100 has about', CIFAR_100)


def test_the_limits_apply_to_all_archives_together(target, tmp_path):
    parts = [
        write_tar(tmp_path / f'{k}.tar', *((f'{k}_{i}', b'text') for i in range(20)))
        for k in range(2)
    ]
    size = unpack(parts[0], str(target), CIFAR_100)
    assert size == (20, 80)
    with pytest.raises(ValueError, match=r"1\.tar': with the archives before it.* 31 files"):
        unpack(parts[1], str(target), CIFAR_100, size)
    assert len(os.listdir(target)) == 20


def test_an_unsafe_name_at_the_end_is_found_before_a_file_is_written(target, tmp_path):
    archive = write_tar(tmp_path / 'evil.tar', ('good', b'good'), ('../evil', b'bad'))
    refuse(archive, target, r"'\.\./evil'")


@pytest.mark.parametrize(
    'name, num_files, num_bytes',
    [
        # six pickles of 10,000 images, the names of the classes and a web page
        ('cifar10', 8, 60_000 * 3072),
        ('cifar100', 4, 60_000 * 3072),
        # train, val and test, boxes for each class and for val, two lists of words
        ('tinyimagenet', 200 * 500 + 2 * 10_000 + 200 + 3, 237_000_000),
        ('caltech256', 30_607, 1_150_000_000),
    ],
)
def test_the_limits_fit_the_official_sets(name, num_files, num_bytes):
    source = SOURCES[name]
    assert num_files <= source.num_files <= max(10, 1.05 * num_files)
    assert num_bytes <= source.num_bytes <= 1.1 * num_bytes


def test_every_damaged_index_of_a_zip_is_named(target, tmp_path):
    whole = open(
        write_zip(tmp_path / 'whole', ('a/b', b'text'), ('c', os.urandom(99))), 'rb'
    ).read()
    refused = 0
    for i in range(1, 23):  # the record at the end
        path = tmp_path / 'garbled.zip'
        path.write_bytes(whole[:-i] + bytes([whole[-i] ^ 255]) + whole[len(whole) - i + 1 :])
        try:
            unpack(str(path), str(target), TINY_IMAGENET)
        except ValueError as error:
            assert 'garbled.zip' in str(error)
            refused += 1
    assert refused > 10


def test_an_encrypted_zip_is_named(target, tmp_path):
    content = bytearray(open(write_zip(tmp_path / 'open', ('a', b'text')), 'rb').read())
    content[6] |= 1  # the flag in the header of the file, and in the index
    content[content.index(b'PK\1\2') + 8] |= 1
    (tmp_path / 'secret.zip').write_bytes(content)
    refuse(str(tmp_path / 'secret.zip'), target, r'secret\.zip.*encrypted')


def test_the_free_space_is_checked_before_unpacking(target, tmp_path, full_disk):
    archive = write_zip(tmp_path / 'a.zip', ('a', os.urandom(5_000_000)))
    refuse(archive, target, r'a\.zip.* needs 5 MB, but 2 MB are free.*--root', error=OSError)
    unpack(write_zip(tmp_path / 'b.zip', ('a', os.urandom(1_000_000))), str(target), TINY_IMAGENET)
    assert (target / 'a').stat().st_size == 1_000_000


def test_the_free_space_is_checked_before_a_folder_is_copied(target, tmp_path, full_disk):
    folder = tmp_path / 'folder'
    folder.mkdir()
    (folder / 'file').write_bytes(bytes(5_000_000))
    with pytest.raises(OSError, match="folder' needs 5 MB, but 2 MB are free"):
        fetch.copy_folder(str(folder), str(target))
    assert os.listdir(target) == []


def test_a_file_above_the_margin_is_accepted_for_a_larger_data_set(target, tmp_path):
    archive = write_zip(tmp_path / 'a.zip', ('a', os.urandom(4_000)))
    small = dataclasses.replace(TINY_IMAGENET, num_bytes=1_000)
    refuse(archive, target, 'unpacks to at least 1 files', small)
    unpack(archive, str(target), dataclasses.replace(TINY_IMAGENET, num_bytes=1_400))
    assert os.listdir(target) == ['a']
