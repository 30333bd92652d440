"""``tools/prepare_data.py`` on a real part of Tiny ImageNet."""

import dataclasses
import hashlib
import io
import os
import shutil
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from project import ROOT, type_command

from prkd_mm.datasets import TinyImageNet, tinyimagenet
from prkd_mm.datasets.prepare import prepare

TOOL = str(ROOT / 'tools' / 'prepare_data.py')


def run_as_user(*args, fails=False):
    """Run the tool in a separate process, which takes seconds to start."""
    return type_command(TOOL, 'tinyimagenet', *args, fails=fails)


@pytest.fixture
def ten_classes(monkeypatch):
    """Make the ten classes here count as the official set."""
    monkeypatch.setattr(tinyimagenet, 'NUM_CLASSES', 10)
    monkeypatch.setattr(tinyimagenet, 'PER_CLASS', dict(train=5, val=2))


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in Path(folder).rglob('*') if p.is_file()}


def cut(path):
    whole = path.read_bytes()
    path.unlink()  # it is a link to a file that other tests read
    path.write_bytes(whole[: len(whole) // 2])


def nothing_left(tmp_path):
    root = tmp_path / 'data'
    return not root.exists() or not os.listdir(root)


def test_help_lists_the_options(tool):
    _, out, status = tool('--help')
    assert status == '0'
    for option in ('tinyimagenet', '--source', '--root', '--name', '--partial'):
        assert option in out


@pytest.mark.slow
def test_a_zip_is_prepared_from_the_command_line(mini_zip, mini, tmp_path):
    printed = run_as_user('--source', mini_zip, '--root', tmp_path, '--partial', '--name', 'mini')
    assert os.listdir(tmp_path) == ['mini']
    assert content(tmp_path / 'mini') == content(mini)
    assert len(TinyImageNet(str(tmp_path / 'mini'))) == 50
    for lack in (
        '10 of 200 classes',
        '50 of 100,000 images in train',
        'n01443537 has 5,',
        '20 of 10,000 images in val',
    ):
        assert lack in ' '.join(printed.split())


@pytest.mark.slow
def test_a_truncated_zip_is_an_error_on_the_command_line(mini_zip, tmp_path):
    cut = tmp_path / 'cut.zip'
    whole = mini_zip.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    printed = run_as_user('--source', cut, '--root', tmp_path / 'data', '--partial', fails=True)
    assert 'Traceback' not in printed
    assert f"error: '{cut}' is damaged, cut short" in printed
    assert nothing_left(tmp_path)


def test_several_archives_or_a_folder_are_accepted(mini, tool, tmp_path, ten_classes):
    """Train and val in a tar.xz, a tar.gz and a zip, and all as a folder."""
    classes = sorted(os.listdir(mini / 'train'))
    sources = [tmp_path / n for n in ('a.tar.xz', 'b.tar.gz', 'val.zip')]
    for path, names in zip(sources, (classes[:5], classes[5:])):
        with tarfile.open(path, f'w:{path.suffix[1:]}') as f:
            for name in names:
                f.add(mini / 'train' / name, f'mini/train/{name}')
    with zipfile.ZipFile(sources[2], 'w') as f:
        for name in content(mini):
            if name.parts[0] != 'train':
                f.write(mini / name, Path('mini') / name)

    code, out, error = tool('--source', *sources)
    assert (code, error) == (0, '')
    assert 'Tiny ImageNet is complete' in out
    assert tool('--source', mini, '--name', 'copied')[0] == 0
    for name in 'tiny-imagenet-200', 'copied':
        assert content(tmp_path / 'data' / name) == content(mini)
    assert sorted(os.listdir(tmp_path / 'data')) == ['copied', 'tiny-imagenet-200']

    # without one of the archives, five classes or all images are missing
    code, _, error = tool('--source', sources[0], sources[2], '--name', 'x')
    assert code == 1 and 'train/<class>/images' in error
    assert all(c in error for c in classes[5:])
    code, _, error = tool('--source', *sources[:2], '--name', 'x')
    assert code == 1 and 'wnids.txt is missing' in error
    assert not (tmp_path / 'data' / 'x').exists()


def test_an_archive_without_a_top_folder_is_accepted(mini, tool, tmp_path, ten_classes):
    flat = shutil.make_archive(str(tmp_path / 'flat'), 'zip', mini)
    assert tool('--source', flat)[0] == 0
    assert content(tmp_path / 'data' / 'tiny-imagenet-200') == content(mini)


def test_an_incomplete_set_needs_partial(mini_zip, tool, tmp_path):
    code, _, error = tool('--source', mini_zip)
    assert code == 1
    assert '10 of 200 classes' in error and '--partial' in error
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    'damage, word',
    [
        (lambda d: shutil.rmtree(d / 'train' / 'n04398044'), 'n04398044'),
        (lambda d: (d / 'train/n04398044/images/n04398044_1.JPEG').unlink(), 'n04398044 has 4'),
        (lambda d: (d / 'val/images/val_13.JPEG').unlink(), 'val_13.JPEG'),
        (
            lambda d: (d / 'words.txt').write_text('n01443537\tgoldfish\n'),
            'words.txt does not name n02002724',
        ),
        (
            lambda d: cut(d / 'train/n04398044/images/n04398044_1.JPEG'),
            'damaged images: images/n04398044_1.JPEG;',
        ),
        (lambda d: cut(d / 'val/images/val_13.JPEG'), 'damaged images: images/val_13.JPEG;'),
    ],
)
def test_missing_parts_are_named(copy, tool, tmp_path, ten_classes, damage, word):
    damage(copy)
    packed = shutil.make_archive(str(tmp_path / 'packed'), 'tar', tmp_path, 'mini')
    code, _, error = tool('--source', packed)
    assert code == 1 and word in error
    assert nothing_left(tmp_path)


@pytest.mark.parametrize('kind', ['zip', 'tar', 'gztar', 'bztar', 'xztar'])
def test_a_truncated_archive_is_named(mini, tool, tmp_path, kind):
    whole = Path(shutil.make_archive(str(tmp_path / 'whole'), kind, mini, 'val'))
    code, _, error = tool('--source', whole)
    assert code == 1 and 'damaged' not in error
    cut = whole.with_name('cut' + ''.join(whole.suffixes))
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3 + 700])
    code, _, error = tool('--source', cut, '--partial')
    assert code == 1 and f"'{cut}' is damaged, cut short" in error
    assert nothing_left(tmp_path)


def test_a_damaged_zip_is_named(mini_zip, tool, tmp_path):
    broken = bytearray(mini_zip.read_bytes())
    middle = len(broken) // 2
    broken[middle : middle + 100] = bytes(100)
    (tmp_path / 'broken.zip').write_bytes(broken)
    code, _, error = tool('--source', tmp_path / 'broken.zip', '--partial')
    assert code == 1 and 'broken.zip' in error and 'damaged' in error
    assert nothing_left(tmp_path)


def add_link(archive):
    link = tarfile.TarInfo('mini/link')
    link.type, link.linkname = tarfile.SYMTYPE, '/etc'
    archive.addfile(link)


def add_file(name):
    def add(archive):
        info = tarfile.TarInfo(name)
        info.size = 3
        archive.addfile(info, io.BytesIO(b'bad'))

    return add


@pytest.mark.parametrize(
    'add, name',
    [
        (add_file('../../evil'), '../../evil'),
        (add_file('mini/../../../evil'), 'mini/../../../evil'),
        (add_file('/tmp/prkd-evil'), '/tmp/prkd-evil'),
        (add_link, 'mini/link'),
    ],
)
def test_a_tar_cannot_write_outside_the_folder(tool, tmp_path, add, name):
    with tarfile.open(tmp_path / 'evil.tar', 'w') as f:
        add(f)
    code, _, error = tool('--source', tmp_path / 'evil.tar', '--partial')
    assert code == 1 and 'unsafe archive' in error and f"'{name}'" in error
    assert os.listdir(tmp_path) == ['evil.tar']
    assert nothing_left(tmp_path) and not os.path.exists('/tmp/prkd-evil')


@pytest.mark.parametrize('name', ['../../evil', '/tmp/prkd-evil'])
def test_a_zip_cannot_write_outside_the_folder(tool, tmp_path, name):
    with zipfile.ZipFile(tmp_path / 'evil.zip', 'w') as f:
        f.writestr(name, 'bad')
    code, _, error = tool('--source', tmp_path / 'evil.zip', '--partial')
    assert code == 1 and 'unsafe archive' in error and f"'{name}'" in error
    assert os.listdir(tmp_path) == ['evil.zip']
    assert nothing_left(tmp_path) and not os.path.exists('/tmp/prkd-evil')


def test_a_complete_set_is_not_changed(mini_zip, tool, tmp_path, ten_classes):
    assert tool('--source', mini_zip)[0] == 0
    target = tmp_path / 'data' / 'tiny-imagenet-200'
    before = target.stat().st_ino, target.stat().st_mtime_ns
    # neither a source nor the network is used
    code, out, _ = tool()
    assert code == 0 and 'complete' in out
    assert (target.stat().st_ino, target.stat().st_mtime_ns) == before


def test_an_incomplete_set_is_not_overwritten(mini_zip, copy, tool, tmp_path, ten_classes):
    target = tmp_path / 'data' / 'tiny-imagenet-200'
    (copy / 'val/images/val_13.JPEG').unlink()
    shutil.copytree(copy, target)
    code, _, error = tool('--source', mini_zip)
    assert code == 1
    assert 'val_13.JPEG' in error and 'remove it' in error
    assert content(target) == content(copy)


def test_the_remains_of_a_killed_run_are_removed(mini_zip, tool, tmp_path):
    left = tmp_path / 'data' / '.tiny-imagenet-200.partial' / 'old'
    left.mkdir(parents=True)
    (left / 'wnids.txt').write_text('n00000000\n')
    assert tool('--source', mini_zip, '--partial')[0] == 0
    assert os.listdir(tmp_path / 'data') == ['tiny-imagenet-200']


def test_invalid_sources_are_errors(mini, tool, tmp_path):
    code, _, error = tool('--source', tmp_path / 'no.zip')
    assert code == 1 and f"'{tmp_path / 'no.zip'}' does not exist" in error
    code, _, error = tool('--source', mini / 'train')
    assert code == 1 and 'there is no wnids.txt in it' in error
    code, _, error = tool('--source', mini / 'wnids.txt')
    assert code == 1 and 'not a zip or tar archive' in error
    code, _, error = tool('--source', mini, '--name', '../out')
    assert code == 1 and "'../out'" in error
    assert nothing_left(tmp_path)


def test_without_a_source_the_archive_is_downloaded(
    mini_zip, mini, tool, tmp_path, monkeypatch, ten_classes
):
    monkeypatch.setenv('no_proxy', '*')
    handler = partial(SimpleHTTPRequestHandler, directory=mini_zip.parent)
    monkeypatch.setattr(SimpleHTTPRequestHandler, 'log_message', lambda *args: None)
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}/{mini_zip.name}'
        official = prepare.SOURCES['tinyimagenet']
        here = dataclasses.replace(official, url=url)
        monkeypatch.setitem(prepare.SOURCES, 'tinyimagenet', here)
        code, _, error = tool()
        assert code == 1 and official.md5 in error
        assert nothing_left(tmp_path)

        md5 = hashlib.md5(mini_zip.read_bytes()).hexdigest()
        here = dataclasses.replace(here, md5=md5)
        monkeypatch.setitem(prepare.SOURCES, 'tinyimagenet', here)
        code, out, _ = tool()
        server.shutdown()
    target = tmp_path / 'data' / 'tiny-imagenet-200'
    assert code == 0 and url in out
    assert os.listdir(tmp_path / 'data') == [target.name]
    assert content(target) == content(mini)


def test_the_official_archive_next_to_the_folder_is_used(
    mini_zip, mini, tool, tmp_path, monkeypatch, ten_classes
):
    here = dataclasses.replace(
        prepare.SOURCES['tinyimagenet'],
        url='http://127.0.0.1:9/set.zip',  # must not be requested
        md5=hashlib.md5(mini_zip.read_bytes()).hexdigest(),
    )
    monkeypatch.setitem(prepare.SOURCES, 'tinyimagenet', here)
    (tmp_path / 'data').mkdir()
    shutil.copy(mini_zip, tmp_path / 'data' / 'set.zip')
    assert tool()[0] == 0
    assert content(tmp_path / 'data' / 'tiny-imagenet-200') == content(mini)
    assert (tmp_path / 'data' / 'set.zip').is_file()
