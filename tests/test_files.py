import errno
import json
import os
import time

import pytest

from prkd_mm.files import atomic_file, write_bytes, write_json, write_text


def test_replaces_a_file_and_leaves_nothing_else(tmp_path):
    for text in ('one', 'two'):
        write_text(tmp_path / 'a.txt', text)
        assert (tmp_path / 'a.txt').read_text() == text
    assert os.listdir(tmp_path) == ['a.txt']


def test_json_can_be_read_back(tmp_path):
    write_json(tmp_path / 'a.json', dict(name='τ', values=[1, 2.5]))
    assert json.loads((tmp_path / 'a.json').read_text()) == dict(name='τ', values=[1, 2.5])


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    write_text(tmp_path / 'a', 'old')
    with pytest.raises(KeyboardInterrupt):
        with atomic_file(tmp_path / 'a') as file:
            file.write(b'half of')
            raise KeyboardInterrupt
    assert (tmp_path / 'a').read_text() == 'old' and os.listdir(tmp_path) == ['a']


def test_content_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    """First the file is synced, then it is renamed, then the folder is synced."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def note_sync(descriptor):
        kind = 'folder' if os.path.isdir(f'/proc/self/fd/{descriptor}') else 'file'
        calls.append(kind)
        fsync(descriptor)

    monkeypatch.setattr(os, 'fsync', note_sync)
    monkeypatch.setattr(os, 'replace', lambda *args: (calls.append('replace'), replace(*args)))
    write_bytes(tmp_path / 'a', b'content')
    assert calls == ['file', 'replace', 'folder']


def test_two_writers_do_not_share_a_temporary_file(tmp_path):
    with atomic_file(tmp_path / 'a') as one, atomic_file(tmp_path / 'a') as two:
        one.write(b'one')
        two.write(b'two')
        assert one.name != two.name
    assert (tmp_path / 'a').read_bytes() == b'one'


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named(tmp_path, number):
    write_text(tmp_path / 'a', 'old')
    with pytest.raises(OSError, match=f"disk is full.*'{tmp_path}/a'; free some space"):
        with atomic_file(tmp_path / 'a'):
            raise OSError(number, os.strerror(number))
    assert os.listdir(tmp_path) == ['a'] and (tmp_path / 'a').read_text() == 'old'


def test_other_errors_are_passed_on(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere'):
        write_text(tmp_path / 'nowhere/a', '')


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    old, new, other = (tmp_path / name for name in ('.a.1.partial', '.a.2.partial', '.b.1.partial'))
    for path in (old, new, other):
        path.touch()
    for path in (old, other):
        os.utime(path, times=(time.time() - 7200,) * 2)
    write_text(tmp_path / 'a', 'text')
    assert sorted(os.listdir(tmp_path)) == ['.a.2.partial', '.b.1.partial', 'a']


def test_a_folder_that_cannot_be_synced_is_not_an_error(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EACCES, 'refused')

    monkeypatch.setattr(os, 'open', refuse)
    write_text(tmp_path / 'a', 'text')
    assert (tmp_path / 'a').read_text() == 'text'
