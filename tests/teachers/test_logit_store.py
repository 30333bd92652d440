"""The files of stored logits return what was stored, or raise an error."""

import errno
import json
import math
import multiprocessing
import os
import sys
import zlib

import numpy as np
import pytest
import torch

from prkd_mm.randomness import spread_indices
from prkd_mm.teachers.logit_arrays import choose_topk, size_in_bytes
from prkd_mm.teachers.logit_store import StoreMismatch, TeacherLogits, hash_of_weights

IDENTITY = dict(teacher='t', source='s', seed=0)
N, C = 5000, 7  # more than one chunk


def logits(view, start, end):
    """Random logits that depend on the view and the index of the image."""
    generator = torch.Generator().manual_seed(view)
    return 5 * torch.randn(N, C, generator=generator)[start:end]


def fill(store, chunks=None):
    for chunk in store.missing()[:chunks]:
        store.put(chunk, logits(*chunk))
    return store


@pytest.fixture
def folder(tmp_path):
    fill(TeacherLogits.create(tmp_path / 'a', 3, N, C, **IDENTITY))
    return tmp_path / 'a'


def test_the_store_returns_what_was_stored(folder):
    store = TeacherLogits(folder, IDENTITY)
    index = np.array([4999, 0, 4096, 17, 17])
    for view in range(3):
        expected = logits(view, 0, N)[index].half().float()
        assert torch.equal(store.get(view, index), expected)


def test_size_in_bytes_is_that_of_the_file(folder):
    file = folder / 'logits.npy'
    assert file.stat().st_size - 128 == size_in_bytes(3, N, C) == 3 * N * C * 2
    # Tiny ImageNet with 16 views and 200 classes
    assert size_in_bytes(16, 100_000, 200) == 640_000_000


@pytest.mark.parametrize('classes', [7, 40_000])
def test_topk_keeps_the_largest_probabilities(tmp_path, classes):
    torch.manual_seed(0)
    z = 4 * torch.randn(50, classes)
    store = TeacherLogits.create(tmp_path / 'a', 1, 50, classes, topk=3, **IDENTITY)
    store.put((0, 0, 50), z)
    p = TeacherLogits(tmp_path / 'a').get(0, np.arange(50)).softmax(1)
    exact = z.softmax(1)
    top = exact.topk(3)
    # a logit of 16 is rounded by up to 0.004
    torch.testing.assert_close(p.gather(1, top.indices), top.values, rtol=0.02, atol=1e-6)
    others = torch.ones_like(p).scatter(1, top.indices, 0.0).bool()
    rest = p[others].view(50, -1)
    assert torch.allclose(rest, rest[:, :1])
    torch.testing.assert_close(rest.sum(1), 1 - top.values.sum(1), rtol=0.02, atol=1e-6)


def test_an_interrupted_store_is_resumed(tmp_path):
    store = TeacherLogits.create(tmp_path / 'a', 3, N, C, **IDENTITY)
    fill(store, chunks=3)
    with pytest.raises(ValueError, match='3 of 6 parts are missing'):
        TeacherLogits(tmp_path / 'a')
    again = TeacherLogits.create(tmp_path / 'a', 3, N, C, **IDENTITY)
    assert again.missing() == again.chunks()[3:]
    fill(again)
    assert torch.equal(
        TeacherLogits(tmp_path / 'a').get(0, np.arange(N)), logits(0, 0, N).half().float()
    )


@pytest.mark.parametrize('what', ['teacher', 'source', 'seed'])
def test_a_store_of_another_teacher_source_or_seed_is_refused(folder, what):
    with pytest.raises(ValueError, match=f'do not match: {what} is'):
        TeacherLogits(folder, {**IDENTITY, what: 'other'})
    with pytest.raises(ValueError, match=f'do not match: {what} is'):
        TeacherLogits.create(folder, 3, N, C, **{**IDENTITY, what: 'other'})


@pytest.mark.parametrize('change', [dict(views=4), dict(images=N + 1)])
def test_a_store_of_another_size_is_not_overwritten(folder, change):
    arguments = dict(dict(views=3, images=N, classes=C), **change, **IDENTITY)
    with pytest.raises(ValueError, match=f'do not match: {next(iter(change))} is'):
        TeacherLogits.create(folder, **arguments)
    TeacherLogits(folder)


def test_damage_is_detected(folder):
    with open(folder / 'logits.npy', 'r+b') as file:
        file.seek(-100, 2)
        byte = file.read(1)
        file.seek(-100, 2)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(ValueError, match='damaged .view 2, images from 4096'):
        TeacherLogits(folder)
    TeacherLogits(folder, verify=False)


def test_a_truncated_file_is_refused(folder):
    path = folder / 'logits.npy'
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError):
        TeacherLogits(folder)


def test_damaged_headers_and_missing_files_are_named(folder):
    (folder / 'logits.npy').rename(folder / 'lost.npy')
    with pytest.raises(ValueError, match='logits.npy is damaged .*No such file.*create the store'):
        TeacherLogits(folder)
    (folder / 'store.json').write_text('{"format": 1, "views": 3}')
    with pytest.raises(
        ValueError, match='store.json. is damaged .it has no classes, crc32, images'
    ):
        TeacherLogits(folder)


def test_a_complete_store_is_opened_for_reading_only(folder, tmp_path):
    """It may be in a read-only place, and NumPy would lengthen a file that was cut short."""
    assert not TeacherLogits(folder, complete=False)._arrays[0].flags.writeable
    unfinished = TeacherLogits.create(tmp_path / 'b', 3, N, C, **IDENTITY)
    assert unfinished._arrays[0].flags.writeable


def test_space_is_reserved(tmp_path, monkeypatch):
    """A full disk would otherwise end a process that writes to the map, without a message."""
    TeacherLogits.create(tmp_path / 'a', 1, N, C)
    file = (tmp_path / 'a/logits.npy').stat()
    assert file.st_blocks * 512 >= file.st_size

    def fail(number):
        def allocate(*args):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, 'posix_fallocate', allocate)

    fail(errno.EOPNOTSUPP)
    TeacherLogits.create(tmp_path / 'b', 1, N, C)
    fail(errno.ENOSPC)
    with pytest.raises(OSError, match='No space left on device: .*c/logits.npy'):
        TeacherLogits.create(tmp_path / 'c', 1, N, C)
    assert not list((tmp_path / 'c').glob('*.npy'))


def test_metrics_on_another_validation_set_replace_the_earlier_ones(folder):
    store = TeacherLogits(folder)
    store.note({'accuracy/top1': 1.0, 'accuracy/top5': 2.0}, 'few')
    store.note({'accuracy/top1': 50.0}, 'all')
    store = TeacherLogits(folder)
    assert store.header['metrics'] == {'accuracy/top1': 50.0}
    assert store.has_metrics('all') and store.has_metrics(None) and not store.has_metrics('few')


def test_the_sample_is_of_the_first_complete_view(tmp_path):
    store = TeacherLogits.create(tmp_path / 'a', 3, N, C, **IDENTITY)
    assert store.sample(9) is None
    for chunk in store.missing():
        if chunk.view == 2 or chunk.start == 0:
            store.put(chunk, logits(*chunk))
    index = spread_indices(N, 9)
    assert torch.equal(store.sample(9), logits(2, 0, N)[index].half().float())


@pytest.mark.parametrize('topk', [None, 3])
def test_other_logits_of_the_teacher_are_refused(tmp_path, topk):
    store = fill(TeacherLogits.create(tmp_path / 'a', 1, N, C, topk))
    index = np.array([17, 4500])
    now = logits(0, 0, N)[index]
    store.compare(0, index, now)
    store.compare(0, index, 1.02 * now)
    for other in (1.1 * now, now + 2, now.flip(0), now * torch.nan):
        with pytest.raises(StoreMismatch, match='differ by up to'):
            store.compare(0, index, other)
    with pytest.raises(StoreMismatch, match='it computes 6 for each image, 7 are stored'):
        store.compare(0, index, now[:, :6])


@pytest.mark.parametrize('topk', [None, 3])
def test_a_common_offset_that_float16_cannot_store_is_an_error(tmp_path, topk):
    """The probabilities are the same, but the rounded logits are not."""
    store = TeacherLogits.create(tmp_path / 'a', 1, 50, C, topk)
    words = r'by 0\.[23].*, which differ by .* common offset of .*; expected at most 0.05'
    with pytest.raises(ValueError, match=words):
        store.put((0, 0, 50), logits(0, 0, 50) + 1000)
    if topk:  # a class that is impossible in one image does not hide the other images
        z = logits(0, 0, 50) + 1000
        z[7, z[7].argmin()] = -math.inf
        with pytest.raises(ValueError, match=words):
            store.put((0, 0, 50), z)
    assert store.missing()


@pytest.mark.parametrize('topk', [None, 3])
@pytest.mark.parametrize(
    'scale, offset', [(5, 0), (5, 100), (60, 0), (60, -60), (1e3, 0), (1e4, 0)]
)
def test_logits_of_any_size_without_a_large_offset_are_stored(tmp_path, scale, offset, topk):
    store = TeacherLogits.create(tmp_path / 'a', 1, 50, C, topk)
    z = scale * logits(0, 0, 50) / 5 + offset
    store.put((0, 0, 50), z)
    store.compare(0, np.arange(8), z[:8])
    constant = torch.full((50, C), 1000.3)  # equal probabilities remain equal
    again = TeacherLogits.create(tmp_path / 'b', 1, 50, C, topk)
    again.put((0, 0, 50), constant)
    again.compare(0, np.arange(8), constant[:8])


def test_a_common_offset_does_not_hide_other_logits(tmp_path):
    store = TeacherLogits.create(tmp_path / 'a', 1, 50, C)
    z = logits(0, 0, 50) + 100
    store.put((0, 0, 50), z)
    with pytest.raises(StoreMismatch, match='differ by up to .* without the mean of its image, is'):
        store.compare(0, np.arange(8), z[:8].flip(1))
    with pytest.raises(StoreMismatch, match='differ by up to'):
        store.compare(0, np.arange(8), 1.3 * (z[:8] - 100) + 100)


def test_bad_arguments_are_refused(tmp_path):
    for arguments in (dict(views=0), dict(topk=7), dict(topk=0)):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            TeacherLogits.create(
                tmp_path / 'a', **dict(dict(views=1, images=2, classes=7), **arguments)
            )
    with pytest.raises(FileNotFoundError, match='cache_teacher.py'):
        TeacherLogits(tmp_path / 'none')
    (tmp_path / 'file').touch()
    with pytest.raises(ValueError, match='file. is a file; name a folder'):
        TeacherLogits.create(tmp_path / 'file', 1, 2, 7)
    store = TeacherLogits.create(tmp_path / 'a', 1, 2, 7, **IDENTITY)
    with pytest.raises(ValueError, match='float16 cannot represent, up to 70000'):
        store.put((0, 0, 2), torch.full((2, 7), 7e4))
    with pytest.raises(ValueError, match='8 logits per image, expected one for each of 7'):
        store.put((0, 0, 2), torch.zeros(2, 8))
    assert store.missing()


def test_another_format_is_refused(folder):
    header = json.loads((folder / 'store.json').read_text())
    (folder / 'store.json').write_text(json.dumps(dict(header, format=0)))
    with pytest.raises(ValueError, match='format 0, expected 1'):
        TeacherLogits(folder)


def test_hash_depends_on_names_shapes_types_and_values():
    state = dict(a=torch.arange(3.0), b=torch.tensor(1))
    assert hash_of_weights(state) == hash_of_weights(dict(b=torch.tensor(1), a=torch.arange(3.0)))
    others = [
        dict(state, a=torch.arange(3.0) + 1e-6),
        dict(a=state['a']),
        dict(state, a=torch.arange(3.0).double()),
        dict(state, a=torch.arange(3.0)[None]),
        dict(c=state['a'], b=state['b']),
    ]
    hashes = {hash_of_weights(other) for other in [state, *others]}
    assert len(hashes) == 6


@pytest.mark.parametrize(
    'asked, classes, kept',
    [(None, 999, None), (None, 1000, 32), (0, 1000, None), (5, 10, 5), (64, 1000, 64)],
)
def test_only_the_largest_logits_are_kept_by_default_from_1000_classes_on(asked, classes, kept):
    assert choose_topk(asked, classes) == kept


def test_imagenet_with_4_views_takes_less_than_2_gigabytes():
    assert size_in_bytes(4, 1_281_167, 1000, choose_topk(None, 1000)) < 2e9


def read_in_little_memory(folder, images, classes, extra):
    import resource  # Linux

    used = int(open('/proc/self/status').read().split('VmData:')[1].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + extra, used + extra))
    store, order = TeacherLogits(folder), np.random.RandomState(0).permutation(images)
    for view in range(store.views):
        for index in np.array_split(order, images // 256):
            assert store.get(view, index).shape == (len(index), classes)


@pytest.mark.skipif(sys.platform != 'linux', reason='memory is limited as on Linux')
def test_a_store_is_read_in_a_tenth_of_its_size_in_memory(tmp_path):
    """The limit counts all memory but that of mapped files, which the kernel can drop."""
    images, classes = 1 << 16, 1000
    store = TeacherLogits.create(tmp_path / 'a', 4, images, classes, **IDENTITY)
    crc = zlib.crc32(bytes(4096 * classes * 2))
    header = dict(store.header, crc32={chunk.name: crc for chunk in store.chunks()})
    (tmp_path / 'a/store.json').write_text(json.dumps(header))
    size = size_in_bytes(4, images, classes)
    assert size > 500e6
    arguments = tmp_path / 'a', images, classes, size // 10
    job = multiprocessing.get_context('fork').Process(target=read_in_little_memory, args=arguments)
    job.start()
    job.join(120)
    assert job.exitcode == 0


def test_a_store_that_was_replaced_is_not_written_to(tmp_path):
    old = TeacherLogits.create(tmp_path / 'a', 1, N, C, **IDENTITY)
    (tmp_path / 'a').rename(tmp_path / 'b')
    new = TeacherLogits.create(tmp_path / 'a', 1, N, C, **dict(IDENTITY, teacher='other'))
    with pytest.raises(StoreMismatch, match='another store has replaced the one in'):
        fill(old, 1)
    new.refresh()
    assert not new.header['crc32']
