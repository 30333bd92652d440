import fcntl
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from prkd_mm.folder_lock import lock_folder

HOLD = """
import sys, time
from prkd_mm.folder_lock import lock_folder
with lock_folder(sys.argv[1]):
    print('held', flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """A process that has locked the folder."""
    process = subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-c', HOLD, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == 'held\n'
    yield process
    process.kill()
    process.wait()


def test_a_locked_folder_is_rejected_and_its_holder_is_named(tmp_path, other):
    with pytest.raises(ValueError) as error, lock_folder(tmp_path):
        pass
    for words in (str(tmp_path), f'process {other.pid} on {socket.gethostname()}', 'stop it'):
        assert words in str(error.value)


def test_a_killed_holder_leaves_no_lock(tmp_path, other):
    other.send_signal(signal.SIGKILL)
    other.wait()
    with lock_folder(tmp_path):
        assert str(os.getpid()) in (tmp_path / '.lock').read_text()


def test_data_workers_do_not_keep_the_lock(tmp_path):
    """A forked child process outlives its killed parent."""
    code = HOLD.replace("    print('held'", "    import os\n    os.fork()\n    print('held'")
    process = subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-c', code, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        # both processes write to the same pipe, so that their characters may be mixed
        assert sorted(process.stdout.read(10)) == sorted('held\n' * 2)
        process.kill()
        process.wait()
        time.sleep(0.1)
        with lock_folder(tmp_path):
            pass
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_a_released_folder_is_free(tmp_path):
    for _ in range(2):
        with lock_folder(tmp_path / 'new'):
            pass


def test_a_released_folder_is_as_it_was_before(tmp_path):
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full/file').touch()
    for name in ('new/empty', 'full'):
        with lock_folder(tmp_path / name):
            pass
    assert sorted(path.name for path in tmp_path.rglob('*')) == ['file', 'full']


def test_a_lock_file_that_its_holder_has_just_removed_is_not_locked(tmp_path, monkeypatch):
    lockf = fcntl.lockf

    def remove_then_lock(file, flags):
        monkeypatch.setattr(fcntl, 'lockf', lockf)
        (tmp_path / '.lock').unlink()
        lockf(file, flags)

    monkeypatch.setattr(fcntl, 'lockf', remove_then_lock)
    with lock_folder(tmp_path):
        assert str(os.getpid()) in (tmp_path / '.lock').read_text()
